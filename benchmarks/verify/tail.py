"""A generalised Pareto tail over the largest of many values, and what it says of values beyond them (numpy alone).

Peaks over a threshold u: (x - u) of the values above it are fitted by probability-weighted moments (Hosking and Wallis,
"Parameter and quantile estimation for the generalized Pareto distribution", Technometrics 29, 1987).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Tail:
    """P(X > x) = share * (1 + shape (x - start) / scale) ^ (-1 / shape) for x beyond `start`."""

    start: float
    share: float
    shape: float
    scale: float
    peaks: int

    def exceeds(self, value: float) -> float:
        """The probability that a value is larger than `value`, which lies beyond `start`."""
        beyond = (value - self.start) / self.scale
        if abs(self.shape) < 1e-9:
            return float(self.share * np.exp(-beyond))
        base = 1.0 + self.shape * beyond
        return float(self.share * base ** (-1.0 / self.shape)) if base > 0 else 0.0


def fit_tail(values: Values, peaks: int) -> Tail:
    """The tail of the `peaks` largest values, which are fewer than all."""
    ordered = np.sort(values)
    start, excesses = float(ordered[-peaks - 1]), ordered[-peaks:] - ordered[-peaks - 1]
    places = (np.arange(1, peaks + 1) - 0.35) / peaks
    mean, weighted = float(excesses.mean()), float(((1.0 - places) * excesses).mean())
    lean = max(mean - 2.0 * weighted, 1e-12 * max(mean, 1e-300))
    shape, scale = 2.0 - mean / lean, 2.0 * mean * weighted / lean
    return Tail(start, peaks / len(values), shape, scale, peaks)
