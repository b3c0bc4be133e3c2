"""Distances of all windows of a sequence at once: the formulas of `inference.fingerprint`, by running sums."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import FingerprintError, WireDtypeError
from inference.fingerprint import DISTANCE_PPB_MAX, PPB, SCALE_FLOOR, compute_delta
from inference.rounding import compute_excess
from proto_specs.types.manifest import WireDtype

Rows = NDArray[np.float32]
Distances = NDArray[np.int64]
Values = NDArray[np.float64]


def send(rows: Rows, wire: WireDtype) -> Rows:
    """Rows as they arrive. Raises WireDtypeError when the wire cannot hold them."""
    return decode_rows(encode_rows(rows, wire), wire, rows.shape[1])


class Recomputed:
    """What a verifier of one shard has of a sequence of P positions: the rows that entered, its own, their scales."""

    def __init__(self, own: Rows, entered: Rows, wire: WireDtype) -> None:
        """[P,C] each. Raises FingerprintError where the shard changes nothing: nothing can be compared then."""
        self.own, self.entered, self.wire = own, entered, wire
        self.delta = compute_delta(own, entered)
        self._squares = np.cumsum(np.square(self.delta), axis=0)
        rms = np.sqrt(self._squares / np.arange(1, len(own) + 1)[:, None])
        median = np.median(rms, axis=1)
        floor = SCALE_FLOOR * np.where(median > 0, median, rms.max(axis=1))
        if not (floor > 0).all():
            raise FingerprintError("the recomputed delta is zero in every channel")
        self.scale: Values = np.maximum(rms, floor[:, None])
        """[P,C]: that of a window which ends with the position."""

    def measure(self, computed: Rows, lengths: Iterable[int]) -> dict[int, Distances]:
        """For each length the distances, in parts per billion, of the windows that end at positions length - 1, ..

        `computed` are rows before they are sent. What cannot be sent is as far off as anything can be.
        """
        try:
            excess = compute_excess(send(computed, self.wire), self.own, self.wire)
        except WireDtypeError:
            return {one: np.full(len(self.own) - one + 1, DISTANCE_PPB_MAX) for one in lengths}
        errors = np.cumsum(np.square(excess), axis=0)
        return {one: self._measure(errors, one) for one in lengths}

    def _measure(self, errors: Values, length: int) -> Distances:
        weights = 1.0 / np.square(self.scale[length - 1 :])
        error, size = (_sum_windows(one, length, weights) for one in (errors, self._squares))
        relative = np.sqrt(np.divide(error, size, out=np.full_like(error, np.inf), where=size > 0))
        distances: Distances = np.minimum(np.ceil(relative * PPB), DISTANCE_PPB_MAX).astype(np.int64)
        return distances


def _sum_windows(sums: Values, length: int, weights: Values) -> Values:
    """Weighted sums over the windows' rows, of running sums [P,C]; a difference of them is no less than zero."""
    inside = sums[length - 1 :].copy()
    inside[1:] -= sums[:-length]
    total: Values = np.einsum("pc,pc->p", np.maximum(inside, 0.0), weights)
    return total
