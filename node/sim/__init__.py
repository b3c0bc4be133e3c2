"""Simulators under a seed: the product's own code on virtual time."""
