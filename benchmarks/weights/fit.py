"""From measurements to constants: a line over each component, raised to cover every point, and rounded up.

Everything after the measuring is integer arithmetic, so that a recording gives the same table everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from benchmarks.weights.recording import Recording
from benchmarks.weights.sample import NOTHING, Measurement, Sample

BASE = ""
"""The component of a call's fixed cost."""


@dataclass(frozen=True, slots=True)
class Table:
    """The content of the generated module. Prices in ns; a call's costs by component."""

    signature: int
    read: int
    seek: int
    row: int
    write: int
    transaction: Sample
    calls: dict[str, dict[str, Sample]]


def build_table(recording: Recording) -> Table:
    """The constants that follow from a recording."""
    store = recording.store
    empty = find_sample(recording.calls, "", "an empty transaction")
    transfer = find_sample(recording.calls, "Transfer", "known account")
    write = store.key_ns - transfer.ns - store.read_ns
    transaction = Sample(round_up(empty.ns + store.commit_ns), *empty.parts[1:])
    names = sorted({one.call for one in recording.calls if one.call})
    return Table(
        signature=round_up(recording.signature_ns),
        read=round_up(store.read_ns),
        seek=round_up(store.seek_ns),
        row=round_up(store.row_ns),
        write=round_up(max(write, store.read_ns)),
        transaction=transaction,
        calls={name: _fit_call([one for one in recording.calls if one.call == name]) for name in names},
    )


def find_sample(found: Sequence[Measurement], call: str, scenario: str) -> Sample:
    """The sample of a measured scenario."""
    return next(one.sample for one in found if (one.call, one.scenario) == (call, scenario))


def round_up(value: int) -> int:
    """The next multiple of 5 in the third digit: two and a half digits, at most 5 % more."""
    digits = len(str(value))
    step = 5 * int("1" + "0" * (digits - 3)) if digits >= 3 else 1
    return -(-value // step) * step


def fit_line(points: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """(base, slope) of a line with no point above it: the least-squares slope, rounded up, and its base."""
    count = len(points)
    mean_x, mean_y = Fraction(sum(x for x, _ in points), count), Fraction(sum(y for _, y in points), count)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else Fraction(0)
    whole = max(-(-slope.numerator // slope.denominator), 0)
    return max(0, *(y - whole * x for x, y in points)), whole


def _fit_call(found: Sequence[Measurement]) -> dict[str, Sample]:
    """A base that covers every scenario, and for each component the largest slope of its scenarios."""
    base, slopes = NOTHING, dict[str, Sample]()
    groups = dict.fromkeys((one.scenario, one.component) for one in found)
    for scenario, component in groups:
        points = [
            (one.size, one.sample.parts) for one in found if (one.scenario, one.component) == (scenario, component)
        ]
        if component == BASE:
            base = _cover(base, *(Sample(*parts) for _, parts in points))
            continue
        lines = [fit_line([(size, parts[place]) for size, parts in points]) for place in range(len(points[0][1]))]
        base = _cover(base, Sample(*(line[0] for line in lines)))
        slopes[component] = _cover(slopes.get(component, NOTHING), Sample(*(line[1] for line in lines)))
    return {name: _round(cost) for name, cost in sorted({BASE: base, **slopes}.items())}


def _cover(*samples: Sample) -> Sample:
    return Sample(*(max(parts) for parts in zip(*(one.parts for one in samples), strict=True)))


def _round(sample: Sample) -> Sample:
    return Sample(round_up(sample.ns), *sample.parts[1:])
