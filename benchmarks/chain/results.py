"""The results of a benchmark: plain records, printed as JSON or a table. Knows no chain."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Setting:
    """The shape of a load."""

    connections: int
    batch: int
    accounts: int


@dataclass(frozen=True, slots=True)
class Run:
    """A run: transfers a second from the first submission to the last inclusion."""

    transfers: int
    submit_s: float
    total_s: float
    blocks: list[int] = field(default_factory=list)
    cpu_s: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)
    audit: dict[str, Any] = field(default_factory=dict)

    @property
    def per_s(self) -> float:
        """The sustained rate."""
        return self.transfers / self.total_s


@dataclass(frozen=True, slots=True)
class Measured:
    """A node under a setting: every run, and their median."""

    name: str
    version: str
    setting: Setting
    runs: list[Run]

    @property
    def median_per_s(self) -> float:
        """The median rate of the runs."""
        return statistics.median(one.per_s for one in self.runs)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON, with the rates written out."""
        runs = [{**asdict(one), "per_s": round(one.per_s, 1)} for one in self.runs]
        median = round(self.median_per_s, 1)
        return {
            "name": self.name,
            "version": self.version,
            "setting": asdict(self.setting),
            "median": median,
            "runs": runs,
        }
