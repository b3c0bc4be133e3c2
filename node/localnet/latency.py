"""What a load came to: counts, rate and latencies. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Finality:
    """Where a node said a transfer is final: the height, and the block's hash if the node told it by a block."""

    height: int
    block: str | None


@dataclass
class LatencyTally:
    """What happened so far. Times are seconds of one clock; a latency begins when a transfer was due, not when it was
    sent, so a node that stops answering is not flattered.
    """

    started_s: float = 0.0
    offered: int = 0
    submitted: int = 0
    accepted: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    finalized: dict[str, Finality] = field(default_factory=dict)
    """By extrinsic hash, what a node reported as finalized."""
    last_finalized_s: float = 0.0

    def finalize(self, extrinsic: str, where: Finality, due_s: float, now_s: float) -> None:
        """A transfer is final."""
        self.finalized[extrinsic] = where
        self.latencies_s.append(now_s - due_s)
        self.last_finalized_s = max(self.last_finalized_s, now_s)

    def fail(self, reason: str) -> None:
        """A transfer that was due will not be seen final."""
        self.failures[reason] += 1

    def report(self) -> LoadReport:
        """The figures."""
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

    `tps` is finalized transfers a second, from the first one due to the last one final. Latencies are from due to seen
    final, None when nothing was. Failures by reason: offered - finalized in all.
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
        """For `--json`."""
        return dict(self.__dict__)


def pick_percentile(ordered: Sequence[float], percent: int) -> float | None:
    """Nearest rank: the smallest value that at least so many percent do not exceed; None of nothing."""
    if not ordered:
        return None
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(1, rank) - 1]


def _to_ms(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1_000)
