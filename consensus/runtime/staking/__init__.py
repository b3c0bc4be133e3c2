"""Runtime module 3: stake, the elected validators, emission, and double-vote evidence."""
