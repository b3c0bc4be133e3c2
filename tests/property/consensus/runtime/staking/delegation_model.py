"""Delegated stake without pools: every lot by itself, in fractions. What test_delegation.py holds the chain to."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from genesis.dev import get_dev_identity
from tests.unit.consensus.runtime.staking.staking_world import FOUR

TRACE = Fraction(1, 1 << 16)
"""nmyl: more than all roundings of shares in one history make."""

VALIDATORS = {name: get_dev_identity(name) for name in FOUR}


@dataclass
class Lot:
    """Stake of one origin behind a validator, in shares of the pool's tokens."""

    shares: Fraction
    earns_after: int
    source: tuple[str, int, int] | None = None


@dataclass
class Exit:
    """Stake on its way out: slashed as it happens, `hits` times so far."""

    amount: Fraction
    begun: int
    height: int
    liabilities: list[tuple[str, int, int]]
    hits: int = 0


@dataclass
class Pool:
    """Tokens, the lots of each delegator, how many there ever were, and slashes of the running block."""

    tokens: Fraction = Fraction(0)
    lots: dict[str, list[Lot]] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    slashes: int = 0

    @property
    def shares(self) -> Fraction:
        return sum((lot.shares for lots in self.lots.values() for lot in lots), Fraction(0))

    def worth(self, shares: Fraction) -> Fraction:
        return shares * self.tokens / self.shares if shares else Fraction(0)

    def list_groups(self, who: str, height: int) -> list[list[Lot]]:
        """What leaves together, in order: ordinary stake, the newest first; then redelegations, the oldest first."""
        lots = self.lots.get(who, [])
        free = [one for one in lots if one.source is None or one.source[2] <= height]
        free.sort(key=lambda one: -one.earns_after)
        liable: dict[tuple[int, bytes], list[Lot]] = {}
        for one in lots:
            if one.source is not None and one.source[2] > height and one.shares:
                liable.setdefault((one.source[1], VALIDATORS[one.source[0]].account), []).append(one)
        return [free, *(liable[key] for key in sorted(liable))]

    def compute_worth(self, lots: list[Lot]) -> Fraction:
        return sum((self.worth(one.shares) for one in lots), Fraction(0))


def check_exits(got: int, exits: list[Exit]) -> None:
    """Each slash took less than a unit too much, and never too little."""
    short = sum((one.amount for one in exits), Fraction(0)) - got
    hits = sum(one.hits for one in exits)
    assert 0 <= short < hits or short == hits == 0, (got, float(short), hits)
