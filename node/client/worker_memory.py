"""What a client has seen of each worker: how fast it is, whether it answers, and how often it failed. Pure.

A worker reports its own figures when it is probed; requests show what they were. What was measured outweighs what was
reported, the more the more often it was.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from node.client.moving_mean import MovingMean
from proto_specs.types.probe import WorkerReport

BACKOFF_S_MIN = 5.0
BACKOFF_S_MAX = 300.0
FORGET_S = 900.0
"""After this time without news a worker is like one that was never seen."""
WORKERS_MAX = 4096
HOPS_MAX = 4096
HALF_LIFE_S = 300.0
"""After so long a failure counts half, and so does what was measured."""
REPORT_AGE_S = 30.0
"""How long a report says what waits at a worker."""
ROOM_AGE_S = 120.0
"""How long it says what room there is: of a thousand workers each is asked once a minute."""
REPORTED_SAMPLES = 2.0
"""What a worker says of itself counts as so many measurements."""
MEASURED_SAMPLES_MAX = 20.0
REQUESTS_TRUSTED = 4.0
"""A worker begins as if it had served so many requests."""
RESTART_US = 4_000_000
"""What a failure costs who asks: noticing it, and the way to another worker."""


@dataclass(frozen=True, slots=True)
class WorkerFigures:
    """What a path may expect of a worker, in microseconds; None where nothing is known.

    `decode_us` is of a step, `prefill_us` of a row among many, `wait_us` what lies before the first row: what waits
    there, and what its failures cost on average. `kv_free` are positions.
    """

    round_trip_us: int | None
    decode_us: int | None
    prefill_us: int | None
    wait_us: int
    kv_free: int | None


UNKNOWN = WorkerFigures(None, None, None, 0, None)


@dataclass(slots=True)
class _Pace:
    reported: MovingMean = field(default_factory=MovingMean)
    measured: MovingMean = field(default_factory=MovingMean)
    measured_s: float = 0.0

    def get(self, now_s: float) -> float | None:
        trust, reported = self.get_samples(now_s), self.reported.get()
        if reported is None:
            return self.measured.get()
        return (reported * REPORTED_SAMPLES + self.measured.value * trust) / (REPORTED_SAMPLES + trust)

    def get_samples(self, now_s: float) -> float:
        return min(self.measured.samples, MEASURED_SAMPLES_MAX) * _decay(now_s - self.measured_s)

    def measure(self, sample_us: float, now_s: float) -> None:
        self.measured.add(sample_us)
        self.measured_s = now_s


@dataclass(slots=True)
class _Seen:
    at_s: float
    accept_us: MovingMean = field(default_factory=MovingMean)
    probe_us: MovingMean = field(default_factory=MovingMean)
    decode: _Pace = field(default_factory=_Pace)
    prefill: _Pace = field(default_factory=_Pace)
    failures_in_a_row: int = 0
    failure_number: int = 0
    has_moved: bool = False
    avoid_until_s: float = 0.0
    is_silent: bool = False
    asked: float = 0.0
    completed: float = 0.0
    counted_s: float = 0.0
    report: WorkerReport | None = None
    reported_s: float = 0.0
    ordered: int = 0
    """Positions that were ordered since its report."""

    def count(self, completed: int, now_s: float) -> None:
        share = _decay(now_s - self.counted_s)
        self.asked = self.asked * share + 1
        self.completed = self.completed * share + completed
        self.counted_s = now_s

    def compute_completion_rate(self, now_s: float) -> float:
        failed = (self.asked - self.completed) * _decay(now_s - self.counted_s)
        return 1.0 - failed / (self.asked * _decay(now_s - self.counted_s) + REQUESTS_TRUSTED)


class WorkerMemory:
    """Times are of one clock that never goes back, such as trio's."""

    def __init__(self) -> None:
        self._seen: dict[bytes, _Seen] = {}
        self._hops: dict[tuple[bytes, bytes], MovingMean] = {}
        self.failures = 0
        """How many there were so far, of all workers."""

    def note_reached(self, worker: bytes, seconds: float, now_s: float) -> None:
        """A worker took a request after `seconds`: it is not left out any more."""
        seen = self._touch(worker, now_s)
        seen.failures_in_a_row, seen.avoid_until_s, seen.is_silent = 0, 0.0, False
        seen.accept_us.add(seconds * 1e6)

    def note_failed(self, worker: bytes, now_s: float) -> None:
        """A worker could not be reached, or did not serve: each failure in a row doubles how long it is left out."""
        seen = self._touch(worker, now_s)
        seen.failures_in_a_row += 1
        seen.failure_number, seen.has_moved = self._count_failure(), False
        seen.count(0, now_s)
        wait_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2.0 ** min(seen.failures_in_a_row - 1, 16))
        seen.avoid_until_s = now_s + wait_s

    def note_completed(self, worker: bytes, now_s: float) -> None:
        """A request that it took part in was answered to the end."""
        self._touch(worker, now_s).count(1, now_s)

    def note_report(self, worker: bytes, report: WorkerReport, round_trip_s: float, now_s: float) -> None:
        """A worker answered a probe, `round_trip_s` after it was asked."""
        seen = self._touch(worker, now_s)
        seen.is_silent, seen.report, seen.reported_s, seen.ordered = False, report, now_s, 0
        seen.probe_us.add(round_trip_s * 1e6)
        for pace, reported_us in ((seen.decode, report.decode_us), (seen.prefill, report.prefill_us)):
            if reported_us:
                pace.reported.add(reported_us)

    def note_ordered(self, worker: bytes, positions: int, now_s: float) -> None:
        """A request is made of a worker: its next report counts so many positions as taken, until then this does."""
        self._touch(worker, now_s).ordered += positions

    def note_silent(self, worker: bytes, now_s: float) -> None:
        """A worker answers no probe: it is left out until it does, or takes a request."""
        seen = self._touch(worker, now_s)
        seen.is_silent, seen.failure_number, seen.has_moved = True, self._count_failure(), False

    def note_moved(self, worker: bytes, now_s: float) -> None:
        """The chain names another address of a worker: what failed at the old one tells nothing of the new one."""
        seen = self._touch(worker, now_s)
        seen.failures_in_a_row, seen.avoid_until_s, seen.is_silent = 0, 0.0, False
        seen.has_moved = seen.failure_number > 0

    def note_paces(self, worker: bytes, now_s: float, decode_us: float | None, prefill_us: float | None) -> None:
        """What requests showed of a worker: microseconds of a step, and of a row among many."""
        seen = self._touch(worker, now_s)
        if decode_us is not None:
            seen.decode.measure(decode_us, now_s)
        if prefill_us is not None:
            seen.prefill.measure(prefill_us, now_s)

    def note_hop(self, source: bytes, target: bytes, one_way_us: float) -> None:
        """What requests showed of the way from one worker to another."""
        mean = self._hops.pop((source, target), None) or MovingMean()
        self._hops[source, target] = mean
        mean.add(one_way_us)
        if len(self._hops) > HOPS_MAX:
            del self._hops[next(iter(self._hops))]

    def is_avoided(self, worker: bytes, now_s: float) -> bool:
        """Whether to leave it out as long as others serve its layers: it failed lately, is silent, or leaves."""
        seen = self._get(worker, now_s)
        if seen is None:
            return False
        is_leaving = seen.report is not None and seen.report.is_leaving
        return now_s < seen.avoid_until_s or seen.is_silent or is_leaving

    def is_full(self, worker: bytes, positions: int, now_s: float) -> bool:
        """Whether it has no room for so many positions, as far as is known: it would refuse."""
        kv_free = self._get_room(self._get(worker, now_s), now_s)
        return kv_free is not None and kv_free < positions

    def has_failed_since(self, worker: bytes, failures: int, now_s: float) -> bool:
        """Whether it failed since `failures` were what they were then."""
        seen = self._get(worker, now_s)
        return seen is not None and seen.failure_number > failures

    def has_moved(self, worker: bytes, now_s: float) -> bool:
        """Whether its address is another one since it failed last."""
        seen = self._get(worker, now_s)
        return seen is not None and seen.has_moved

    def get_figures(self, worker: bytes, now_s: float) -> WorkerFigures:
        """What a path may expect of a worker."""
        seen = self._get(worker, now_s)
        if seen is None:
            return UNKNOWN
        round_trip_us = seen.probe_us.get() or seen.accept_us.get()
        decode_us, prefill_us = seen.decode.get(now_s), seen.prefill.get(now_s)
        wait_us = (1.0 - seen.compute_completion_rate(now_s)) * RESTART_US
        kv_free = self._get_room(seen, now_s)
        if seen.report is not None and now_s - seen.reported_s <= REPORT_AGE_S:
            wait_us += seen.report.waiting_rows * (prefill_us or 0.0)
        return WorkerFigures(_round(round_trip_us), _round(decode_us), _round(prefill_us), round(wait_us), kv_free)

    def get_samples(self, worker: bytes, now_s: float) -> tuple[float, float]:
        """How often its decode and its prefill were measured, old measurements counting less."""
        seen = self._get(worker, now_s)
        return (0.0, 0.0) if seen is None else (seen.decode.get_samples(now_s), seen.prefill.get_samples(now_s))

    def get_hops(self) -> Mapping[tuple[bytes, bytes], int]:
        """One-way times between workers that requests showed, in microseconds."""
        return {pair: round(mean.value) for pair, mean in self._hops.items()}

    def count_hop_samples(self, source: bytes, target: bytes) -> int:
        """How often the way from one worker to another was seen."""
        mean = self._hops.get((source, target))
        return 0 if mean is None else mean.samples

    def _count_failure(self) -> int:
        self.failures += 1
        return self.failures

    @staticmethod
    def _get_room(seen: _Seen | None, now_s: float) -> int | None:
        if seen is None or seen.report is None or now_s - seen.reported_s > ROOM_AGE_S:
            return None
        return max(0, seen.report.kv_free - seen.ordered)

    def _get(self, worker: bytes, now_s: float) -> _Seen | None:
        seen = self._seen.get(worker)
        return None if seen is None or now_s - seen.at_s > FORGET_S else seen

    def _touch(self, worker: bytes, now_s: float) -> _Seen:
        """What is known of it, made the latest; the one of whom nothing was heard for longest makes room."""
        seen = self._get(worker, now_s) or _Seen(now_s)
        self._seen.pop(worker, None)
        self._seen[worker] = seen
        seen.at_s = now_s
        if len(self._seen) > WORKERS_MAX:
            del self._seen[next(iter(self._seen))]
        return seen


def _decay(age_s: float) -> float:
    return math.exp2(-max(age_s, 0.0) / HALF_LIFE_S)


def _round(us: float | None) -> int | None:
    return None if us is None else round(us)
