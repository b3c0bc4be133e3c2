"""Plans of a model over a fleet of machines: who holds which layers, how fast it will be, and what holds it back."""
