"""Benchmarks: each figure measured side by side with a peer, in one run, on one machine. Not part of the installed
node.
"""
