"""Runtime module 3: stake, the elected validators, emission, and evidence of double-signing."""
