"""`myelin bench inference`: the engine beside llama.cpp, in the same run, on the same file, with the same threads."""
