"""Tests of the benchmark of paths of worker processes."""
