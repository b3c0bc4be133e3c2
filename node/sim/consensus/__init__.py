"""Whole nodes on virtual time under a seed: the very replica, store, log and signer of a live node, faults besides.

Entry point: `run.simulate`. See docs/simulator.md.
"""
