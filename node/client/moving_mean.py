"""A mean that follows what is measured, steady against noise and quick after a change. Pure."""

from __future__ import annotations

from dataclasses import dataclass

WEIGHT_MIN = 0.1
WEIGHT_SURPRISED = 0.5
SURPRISE = 2.0
"""A sample that differs by this factor is noise when it stands alone, and a change when the next one agrees."""


@dataclass(slots=True)
class MovingMean:
    """The plain mean of the first samples; of later ones each has a weight of WEIGHT_MIN at least."""

    samples: int = 0
    value: float = 0.0
    _surprises: int = 0

    def add(self, sample: float) -> None:
        """One more sample, not negative."""
        self.samples += 1
        weight = max(WEIGHT_MIN, 1.0 / self.samples)
        side = (sample > SURPRISE * self.value) - (SURPRISE * sample < self.value)
        if side == 0:
            self._surprises = 0
        else:
            self._surprises = self._surprises + side if self._surprises * side > 0 else side
            if abs(self._surprises) > 1:
                weight = max(weight, WEIGHT_SURPRISED)
        self.value += weight * (sample - self.value)

    def get(self) -> float | None:
        """The mean; None before the first sample."""
        return self.value if self.samples else None
