"""From what was measured to a threshold and a range for each boundary, and to the cheats that they do not tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from inference.calibration.claimants import HONEST
from inference.calibration.tallies import Boundary, DistanceTally, compute_worst
from inference.engine.golden import RANGE_MAX, RANGE_SLACK

MARGIN = 3
"""The least ratio of a threshold to the worst honest distance."""
MARGIN_MAX = 10
"""And the largest: more would let cheats come nearer for nothing."""
THRESHOLD_MIN = 1_000
"""Honest distances of nothing would make any rounding a cheat."""
MISSED_SHARE_MAX = 1e-4
"""A cheat of which more windows pass is one that a boundary does not tell."""

NARROW_SLACK = 2
"""How many times the largest value a range is, where honest machines differ too much on the usual RANGE_SLACK times."""

DECODING = frozenset(one.name for one in HONEST if one.is_decoding)


@dataclass(frozen=True)
class Missed:
    """A cheat that a boundary does not tell in windows of one length: its least distance, and how many passed."""

    name: str
    start: int
    length: int
    least: int
    passed: int
    count: int


@dataclass(frozen=True)
class Chosen:
    """What a boundary gets, and why. Distances are in parts per billion, `weakest` of the cheats that are told.

    `stretched_worst` is of honest machines whose shards begin here, on rows at the end of the usual range.
    """

    end: int
    threshold: int
    largest_value: int
    prefill_worst: int
    decode_worst: int
    stretched_worst: int
    weakest: int
    weakest_name: str
    missed: tuple[Missed, ...]


def choose(boundaries: Sequence[Boundary], layers: int) -> list[Chosen]:
    """For the boundary after each layer; shards that begin with the first layer were measured to all of them."""
    chosen = [_choose([one for one in boundaries if one.end == end], end) for end in range(1, layers + 1)]
    return [_bound([one for one in boundaries if one.start == at.end], at, chosen[at.end :]) for at in chosen]


def _bound(begun: Sequence[Boundary], boundary: Chosen, later: Sequence[Chosen]) -> Chosen:
    """With a range so narrow that no predecessor's rows take honest machines near a threshold, as far as measured."""
    worst = compute_worst(tally for one in begun for tally in one.stretched.values())
    if MARGIN * worst <= min((one.threshold for one in later), default=worst * MARGIN):
        return replace(boundary, stretched_worst=worst)
    narrow = math.ceil(boundary.largest_value / RANGE_SLACK) * NARROW_SLACK
    return replace(boundary, stretched_worst=worst, largest_value=narrow)


def _choose(found: Sequence[Boundary], end: int) -> Chosen:
    assert found, "every boundary was measured"
    honest = [(name, tally) for one in found for name, tally in one.honest.items()]
    decode = compute_worst(tally for name, tally in honest if name in DECODING)
    prefill = compute_worst(tally for name, tally in honest if name not in DECODING)
    worst = max(decode, prefill)
    cheats = [
        (boundary.start, name, length, tally)
        for boundary in found
        for name, lengths in boundary.cheats.items()
        for length, tally in lengths.items()
        if tally.lowest
    ]
    wide = [tally.lowest[0] for *_, tally in cheats if tally.lowest[0] > MARGIN * MARGIN * worst]
    middle = math.isqrt(worst * min(wide)) if wide else MARGIN * worst
    threshold = _round_up(max(min(middle, MARGIN_MAX * worst), MARGIN * worst, THRESHOLD_MIN))
    told = [(tally.lowest[0], name) for _, name, _, tally in cheats if not _is_missed(tally, threshold)]
    weakest, weakest_name = min(told, default=(0, ""))
    largest = max(one.largest for one in found)
    return Chosen(
        end=end,
        threshold=threshold,
        largest_value=min(max(math.ceil(RANGE_SLACK * largest), 1), RANGE_MAX),
        prefill_worst=prefill,
        decode_worst=decode,
        stretched_worst=0,
        weakest=weakest,
        weakest_name=weakest_name,
        missed=tuple(
            Missed(name, start, length, tally.lowest[0], tally.count_within(threshold), tally.count)
            for start, name, length, tally in cheats
            if _is_missed(tally, threshold)
        ),
    )


def _is_missed(tally: DistanceTally, threshold: int) -> bool:
    return tally.count_within(threshold) > MISSED_SHARE_MAX * tally.count


def _round_up(value: int) -> int:
    """To two digits."""
    unit = int("1" + "0" * max(len(str(value)) - 2, 0))
    return -(-value // unit) * unit
