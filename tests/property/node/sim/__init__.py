"""Properties of simulated networks."""
