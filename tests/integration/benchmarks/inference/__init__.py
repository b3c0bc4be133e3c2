"""The benchmark of inference as users run it."""
