"""Tests of the benchmark of inference."""
