"""Extreme distances of many windows, by who claimed them and how long they were. Becomes JSON and comes back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from inference.calibration.distances import Distances

LOWEST_KEPT = 64
"""The least distances of a cheat that are kept, so that missed windows can be counted once thresholds are known."""


@dataclass
class DistanceTally:
    """Distances of one claimant's windows of one length, in parts per billion."""

    count: int = 0
    worst: int = 0
    lowest: list[int] = field(default_factory=list)

    def add(self, distances: Distances) -> None:
        """Count more windows."""
        if not len(distances):
            return
        self.count += len(distances)
        self.worst = max(self.worst, int(distances.max()))
        least = np.sort(distances)[:LOWEST_KEPT].tolist()
        self.lowest = sorted([*self.lowest, *least])[:LOWEST_KEPT]

    def count_within(self, threshold: int) -> int:
        """Windows that a threshold lets pass, as far as they were kept."""
        return sum(one <= threshold for one in self.lowest)

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        return {"count": self.count, "worst": self.worst, "lowest": self.lowest}

    @staticmethod
    def from_json(found: dict[str, Any]) -> DistanceTally:
        """The tally of such fields. Raises KeyError, TypeError or ValueError for others."""
        return DistanceTally(int(found["count"]), int(found["worst"]), [int(one) for one in found["lowest"]])


@dataclass
class Boundary:
    """What was found of shards from one start to one end.

    `honest` and `cheats` are of usual rows; `stretched` of honest work on rows as large as the model's range allows.
    Each is by claimant and by length of window. `largest` is the largest magnitude of the usual rows.
    """

    start: int
    end: int
    honest: dict[str, dict[int, DistanceTally]] = field(default_factory=dict)
    cheats: dict[str, dict[int, DistanceTally]] = field(default_factory=dict)
    stretched: dict[str, dict[int, DistanceTally]] = field(default_factory=dict)
    largest: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Its fields."""
        named = {name: _write(getattr(self, name)) for name in ("honest", "cheats", "stretched")}
        return {"start": self.start, "end": self.end, "largest": self.largest, **named}

    @staticmethod
    def from_json(found: dict[str, Any]) -> Boundary:
        """The findings of such fields. Raises KeyError, TypeError, ValueError or AttributeError for others."""
        honest, cheats, stretched = (_read(found[name]) for name in ("honest", "cheats", "stretched"))
        return Boundary(int(found["start"]), int(found["end"]), honest, cheats, stretched, float(found["largest"]))


def compute_worst(tallies: Iterable[dict[int, DistanceTally]], length: int | None = None) -> int:
    """The largest distance of several claimants, of windows of one length or of all."""
    return max(
        (tally.worst for one in tallies for size, tally in one.items() if length in (None, size)),
        default=0,
    )


def _write(named: dict[str, dict[int, DistanceTally]]) -> dict[str, Any]:
    return {name: {str(length): one.to_json() for length, one in found.items()} for name, found in named.items()}


def _read(named: dict[str, Any]) -> dict[str, dict[int, DistanceTally]]:
    return {
        name: {int(key): DistanceTally.from_json(one) for key, one in found.items()} for name, found in named.items()
    }
