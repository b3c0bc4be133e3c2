"""What a call over the path takes, by the number of rows that are drafted, learnt from calls. Pure; has no clock."""

from __future__ import annotations

from dataclasses import dataclass

DECAY = 0.99
"""By call. What is not measured again for long is forgotten, and so tried again: rarely, but it may have changed."""
ROWS_OF_CALL = 18
"""Drafted rows that are supposed to take as long as the call itself, until it is known."""
_PRIOR_WEIGHT = 0.03
_PRIOR_ROWS = (1, 31)
_OUTLIER = 4.0
"""A call that takes so many times what is expected stood still for reasons of its own."""
_OUTLIER_AFTER = 2.5
_OUTLIER_UNKNOWN = 64.0
_GUESSED_MAX = 4
_SINGLE_SHARE = 0.15


@dataclass
class CallCosts:
    """Seconds of a call: those of one without a draft, and for drafts a line, `base + slope * rows`, on top of it.

    The line does not begin at zero: single rows have kernels of their own, and drafting may take time.
    """

    single_s: float = 0.0
    """0 until the first call."""
    _singles: int = 0
    _weight: float = 0.0
    _rows: float = 0.0
    _rows_squared: float = 0.0
    _extra_s: float = 0.0
    _rows_extra_s: float = 0.0

    def observe(self, drafted: int, seconds: float) -> None:
        """A call with `drafted` drafted rows took so long, from one token that came back to the next."""
        is_known = (self._weight if drafted else self._singles) >= _OUTLIER_AFTER
        if is_known:
            seconds = min(seconds, _OUTLIER * self.compute(drafted))
        elif self._singles:
            seconds = min(seconds, _OUTLIER_UNKNOWN * self.single_s)
        self._weight *= DECAY
        self._rows *= DECAY
        self._rows_squared *= DECAY
        self._extra_s *= DECAY
        self._rows_extra_s *= DECAY
        if not drafted:
            self._singles += 1
            self.single_s += max(_SINGLE_SHARE, 1 / self._singles) * (seconds - self.single_s)
            return
        if not self._singles:  # a guess, until there is one
            self.single_s = seconds / (1 + drafted / ROWS_OF_CALL)
        extra = seconds - self.single_s
        self._weight += 1
        self._rows += drafted
        self._rows_squared += drafted * drafted
        self._extra_s += extra
        self._rows_extra_s += drafted * extra

    @property
    def is_guess(self) -> bool:
        """Whether there was no call without a draft, and it is guessed from those with one what it takes."""
        return not self._singles

    @property
    def is_poor_guess(self) -> bool:
        """Whether it has been guessed for long enough."""
        return self.is_guess and self._weight > _GUESSED_MAX - 0.5

    def compute(self, drafted: int) -> float:
        """Seconds that a call with so many drafted rows is expected to take; before the first one, in calls."""
        single_s = self.single_s or 1.0
        if not drafted:
            return single_s
        base_s, slope_s = self._fit(single_s)
        return single_s + max(base_s + slope_s * drafted, 0.0)

    def compute_slope(self) -> float:
        """Seconds that one drafted row more takes."""
        return self._fit(self.single_s or 1.0)[1]

    def _fit(self, single_s: float) -> tuple[float, float]:
        """Least squares over the calls there were, and with little weight the line that is supposed."""
        prior_s = [single_s * rows / ROWS_OF_CALL for rows in _PRIOR_ROWS]
        weight = self._weight + _PRIOR_WEIGHT * len(_PRIOR_ROWS)
        rows = (self._rows + _PRIOR_WEIGHT * sum(_PRIOR_ROWS)) / weight
        extra_s = (self._extra_s + _PRIOR_WEIGHT * sum(prior_s)) / weight
        squared = (self._rows_squared + _PRIOR_WEIGHT * sum(one * one for one in _PRIOR_ROWS)) / weight
        products = _PRIOR_WEIGHT * sum(one * other for one, other in zip(_PRIOR_ROWS, prior_s, strict=True))
        product = (self._rows_extra_s + products) / weight
        slope_s = max((product - rows * extra_s) / (squared - rows * rows), 0.0)
        return extra_s - slope_s * rows, slope_s
