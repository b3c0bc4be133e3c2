"""Benchmarks: each figure measured side by side with a peer, in one run, on one machine. No part of the wheel."""
