"""Tests of the simulated economy's parts."""
