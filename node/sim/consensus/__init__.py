"""Whole nodes on virtual time under a seed: the replica, store, log and signer of a live node, with injected faults.

Entry point: `run.simulate`. See docs/simulator.md.
"""
