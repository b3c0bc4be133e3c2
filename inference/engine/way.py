"""The ways in which one runtime computes the same layers honestly: they differ in the order of sums alone."""

from __future__ import annotations

import enum


class Way(enum.Enum):
    """USUAL is what workers and verifiers do; the others stand for other builds and machines in a calibration.

    UNOPTIMISED runs the graph as it is written; PLAIN attends by plain operators (the graph for CUDA, on a CPU).
    """

    USUAL = "usual"
    UNOPTIMISED = "unoptimised"
    PLAIN = "plain"
