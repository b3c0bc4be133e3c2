"""One file a model family: its settings, its tensors by name, its layers as a graph."""
