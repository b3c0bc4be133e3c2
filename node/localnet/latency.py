"""The result of a load: counts, rate and latencies. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finality:
    """The height at which a node reported a transfer as final, and the block's hash if the report came with a block."""

    height: int
    block: str | None


@dataclass
class LatencyTally:
    """Counts and latencies so far, in seconds of a single clock.

    A latency begins when a transfer was due, not when it was sent, so that a stalled node does not look fast.
    """

    started_s: float = 0.0
    offered: int = 0
    submitted: int = 0
    accepted: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    finalized: dict[str, Finality] = field(default_factory=dict)
    """The reported finality of each transfer, by extrinsic hash."""
    last_finalized_s: float = 0.0

    def finalize(self, extrinsic: str, where: Finality, due_s: float, now_s: float) -> None:
        """Count a final transfer."""
        self.finalized[extrinsic] = where
        self.latencies_s.append(now_s - due_s)
        self.last_finalized_s = max(self.last_finalized_s, now_s)

    def fail(self, reason: str) -> None:
        """Count a due transfer that will not be seen final."""
        self.failures[reason] += 1

    def report(self) -> LoadReport:
        """Compute the report."""
        latencies = sorted(self.latencies_s)
        elapsed_s = self.last_finalized_s - self.started_s
        return LoadReport(
            offered=self.offered,
            submitted=self.submitted,
            accepted=self.accepted,
            finalized=len(latencies),
            tps=round(len(latencies) / elapsed_s, 1) if latencies and elapsed_s > 0 else 0.0,
            p50_ms=_to_ms(pick_percentile(latencies, 50)),
            p99_ms=_to_ms(pick_percentile(latencies, 99)),
            max_ms=_to_ms(latencies[-1] if latencies else None),
            failures=dict(sorted(self.failures.items())),
        )


@dataclass(frozen=True)
class LoadReport:
    """`offered` transfers were due, `submitted` were sent, `accepted` by a node's pool, `finalized` seen in a block.

    `tps` is finalized transfers a second, from the first due to the last final. Latencies run from due to seen final,
    and are None without a final transfer. Failures are counted by reason: offered - finalized in all.
    """

    offered: int
    submitted: int
    accepted: int
    finalized: int
    tps: float
    p50_ms: int | None
    p99_ms: int | None
    max_ms: int | None
    failures: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        return dict(self.__dict__)


def pick_percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Nearest rank: the smallest value that at least `percent` of the values do not exceed; None without values."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(1, rank) - 1]


def _to_ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000)
