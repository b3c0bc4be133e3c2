"""Counting reveals into a verdict. Pure: knows no state and no money."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations, pairwise

from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import CommitteeMember, Reveal
from proto_specs.limits import FINGERPRINT_DIMENSIONS, FINGERPRINT_TOLERANCE_PPB
from proto_specs.types.calls import Outcome

_PPB_SQUARED = 10**18


@dataclass(frozen=True, slots=True)
class VerdictTally:
    """The committee's result: the outcome, its carriers (in committee order), and their largest distance.

    Without a verdict `is_suspect` tells whether somebody's fail, or that nothing was opened, counted all the same.
    """

    outcome: Outcome
    carriers: tuple[bytes, ...]
    distance_ppb: int
    is_suspect: bool = False


def compute_tally(
    params: InferenceParams,
    committee: tuple[CommitteeMember, ...],
    reveals: Mapping[bytes, Reveal],
    round_starts: tuple[int, ...] = (),
) -> VerdictTally:
    """Count by the stake of the WHOLE committee except replaced members: silence does not consent.

    fail: two thirds of the stake, and at least `fails_min` members. pass: two thirds. unavailable: as for fail, by
    those who found that nothing was opened and those who found a fail together, so that opening wrong work to some
    only is no way out. Else inconclusive. `list_counted` says who counts. Later rounds begin at `round_starts`.
    """
    counted = list_counted(committee, reveals, round_starts)
    total = sum(member.stake for member in committee)
    for outcome, among in (
        (Outcome.FAIL, (Outcome.FAIL,)),
        (Outcome.PASS, (Outcome.PASS,)),
        (Outcome.UNAVAILABLE, (Outcome.UNAVAILABLE, Outcome.FAIL)),
    ):
        voters = [one for one in committee if counted.get(one.verifier) in among]
        if outcome != Outcome.PASS and len(voters) < params.fails_min:
            continue
        if voters and 3 * sum(one.stake for one in voters) >= 2 * total:
            carriers = tuple(one.verifier for one in voters)
            return VerdictTally(outcome, carriers, max(reveals[one].distance_ppb for one in carriers))
    is_suspect = any(one in (Outcome.FAIL, Outcome.UNAVAILABLE) for one in counted.values())
    return VerdictTally(Outcome.INCONCLUSIVE, (), 0, is_suspect)


def list_counted(
    committee: tuple[CommitteeMember, ...], reveals: Mapping[bytes, Reveal], round_starts: tuple[int, ...] = ()
) -> dict[bytes, Outcome]:
    """The outcome of every member that counts, in committee order. Silent and inconclusive ones do not.

    A pass or fail counts only when its fingerprint agrees with more than half (by stake) of those of the same outcome
    and round, its own included: each round's fingerprints have their own seed.
    """
    counted: dict[bytes, Outcome] = {}
    for start, end in pairwise((0, *round_starts, len(committee))):
        members = [one for one in committee[start:end] if one.verifier in reveals]
        for outcome in (Outcome.PASS, Outcome.FAIL, Outcome.UNAVAILABLE):
            agreed = [one for one in members if reveals[one.verifier].outcome == outcome]
            if outcome != Outcome.UNAVAILABLE:
                agreed = _drop_outliers(agreed, reveals)
            counted |= dict.fromkeys((one.verifier for one in agreed), outcome)
    return {one.verifier: counted[one.verifier] for one in committee if one.verifier in counted}


def is_fingerprint_match(first: bytes, second: bytes, tolerance_ppb: int = FINGERPRINT_TOLERANCE_PPB) -> bool:
    """Whether two fingerprints (int32, little-endian) are within a tolerance of each other, by integers alone.

    sum((a - b)^2) x 10^18 <= tolerance_ppb^2 x min(sum(a^2), sum(b^2)). Equal ones match, all zeros match only zeros.
    """
    if first == second:
        return True
    shape = f"<{FINGERPRINT_DIMENSIONS}i"
    a, b = struct.unpack(shape, first), struct.unpack(shape, second)
    difference: int = sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
    scale: int = min(sum(x * x for x in a), sum(y * y for y in b))
    return difference * _PPB_SQUARED <= tolerance_ppb * tolerance_ppb * scale


def _drop_outliers(voters: list[CommitteeMember], reveals: Mapping[bytes, Reveal]) -> list[CommitteeMember]:
    """The voters whose fingerprint agrees with those of more than half the voters' stake, their own included."""
    prints = [reveals[one.verifier].fingerprint for one in voters]
    agreeing = [one.stake for one in voters]
    for i, j in combinations(range(len(voters)), 2):
        if is_fingerprint_match(prints[i], prints[j]):
            agreeing[i] += voters[j].stake
            agreeing[j] += voters[i].stake
    stake = sum(one.stake for one in voters)
    return [one for one, agreed in zip(voters, agreeing, strict=True) if 2 * agreed > stake]
