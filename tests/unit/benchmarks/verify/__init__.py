"""Tests of the figures of verification."""
