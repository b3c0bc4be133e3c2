"""One delegator's account with one validator. Opening settles it, closing pays the earnings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.staking.errors import InsufficientDelegation, PoolDrained, TooManyRedelegations
from consensus.runtime.staking.pool_state import (
    COHORTS_MAX,
    EMPTY_DELEGATION,
    INDEX_SCALE,
    NO_OUTFLOWS,
    OUTFLOW_EPOCHS_MAX,
    REDELEGATIONS_MAX,
    SHARES_MAX,
    Cohort,
    Membership,
    Outflow,
    Outflows,
    cohorts,
    compute_pool_account,
    delegations,
    memberships,
    outflows,
    write_pool,
)
from consensus.runtime.staking.pools import (
    add_shares,
    compute_new_shares,
    compute_shares_of,
    compute_value,
    drop_shares,
    open_pool,
    realize,
    settle,
)
from consensus.state.storage import StateWriter


@dataclass(frozen=True, slots=True)
class Liable:
    """A membership with its cohort: stake redelegated from `source` in the epoch that ended with `votes_until`."""

    votes_until: int
    source: bytes
    cohort: Cohort
    member: Membership


@dataclass(frozen=True, slots=True)
class Taken:
    """nmyl taken out of the pool, and the cohort it was in: (source, its last voting block, liable below block)."""

    amount: int
    source: tuple[bytes, int, int] | None


class Book:
    """The stake of `who` behind `validator` in block `height`. `close` writes the changes to the state."""

    def __init__(self, state: StateWriter, who: bytes, validator: bytes, height: int) -> None:
        """Settle rewards; stake whose liability is over becomes ordinary delegation."""
        self._state, self._who, self._validator, self._height = state, who, validator, height
        self.pool = open_pool(state, validator, height)
        self.earned = 0
        self.merged = False
        found = delegations.read(state, who, validator)
        self.exists = found is not None
        self.main = found or EMPTY_DELEGATION
        self._settle_main()
        self.liable: list[Liable] = []
        for (_, _, votes_until, source), member in memberships.iterate(state, who, validator):
            self.exists = True
            self._open_membership(votes_until, source, member)

    @property
    def value(self) -> int:
        """nmyl behind the validator, whether free to move or not."""
        return self.main_value + sum(self.compute_liable_value(one) for one in self.liable)

    @property
    def main_value(self) -> int:
        """nmyl that are liable for no other validator."""
        return compute_value(self.pool.tokens, self.pool.shares, self.main.shares)

    def compute_liable_value(self, one: Liable) -> int:
        """nmyl of a membership."""
        shares = compute_value(one.cohort.shares, one.cohort.members, one.member.shares)
        return compute_value(self.pool.tokens, self.pool.shares, shares)

    def join(self, amount: int, epoch_end: int) -> None:
        """Put `amount` into the pool as ordinary delegation; the caller brings the money. Raises PoolDrained."""
        shares = self._buy_shares(amount)
        self.pool, self.main = add_shares(self.pool, self.main, shares, epoch_end)

    def join_cohort(self, amount: int, source: bytes, epoch_end: int, until: int) -> None:
        """Put redelegated `amount` into the pool; the caller brings the money.

        Raises PoolDrained, TooManyRedelegations.
        """
        shares = self._buy_shares(amount)
        at = next(
            (i for i, one in enumerate(self.liable) if (one.votes_until, one.source) == (epoch_end, source)), None
        )
        if at is None:
            if len(self.liable) >= REDELEGATIONS_MAX:
                raise TooManyRedelegations(f"{REDELEGATIONS_MAX} redelegations are liable here already")
            opened = Liable(epoch_end, source, self._open_cohort(source, epoch_end, until), Membership(0, 0, 0))
            opened = replace(opened, member=Membership(0, opened.cohort.index, 0))
        else:
            opened = self.liable.pop(at)
        cohort = opened.cohort
        if cohort.members and not cohort.shares:
            raise PoolDrained("the redelegations of this epoch were slashed to nothing")
        members = compute_new_shares(cohort.shares, cohort.members, shares) if cohort.members else shares
        if cohort.members + members > SHARES_MAX:
            raise PoolDrained("the redelegations of this epoch were slashed to next to nothing")
        self.pool, cohort = add_shares(self.pool, cohort, shares, epoch_end)
        cohort = replace(cohort, members=cohort.members + members)
        member = replace(opened.member, shares=opened.member.shares + members)
        self.liable.append(replace(opened, cohort=cohort, member=member))

    def take(self, amount: int, *, with_liable: bool) -> list[Taken]:
        """Take `amount` out of the pool: first stake liable for no other validator, then, if allowed, oldest liable.

        The caller moves the money. A delegator that takes all may get one unit more, which was rounded away before.
        Raises InsufficientDelegation.
        """
        values = [self.compute_liable_value(one) for one in self.liable] if with_liable else []
        have = self.main_value + sum(values)
        if amount > have:
            raise InsufficientDelegation(f"{have} nmyl of the delegation can go, {amount} were to")
        part = min(amount, self.main_value)
        left = amount - part
        taken = [Taken(self._take_main(part, is_all=part == self.main_value), None)]
        for index, value in enumerate(values):
            one, part = self.liable[index], min(left, value)
            left -= part
            source = one.source, one.votes_until, one.cohort.until
            taken.append(Taken(self._take_liable(index, part, is_all=part == value), source))
        return [one for one in taken if one.amount]

    def close(self) -> int:
        """Write everything back and pay the earnings to the delegator's free balance; returns the nmyl paid."""
        for one in self.liable:
            self._close_liable(one)
        if self.main_value:
            delegations.write(self._state, self._who, self._validator, self.main)
        else:
            self.pool, gone = drop_shares(self.pool, self.main, self.main.shares)
            self.pool = replace(self.pool, carry=self.pool.carry + gone.rest)
            delegations.delete(self._state, self._who, self._validator)
        self.pool = replace(self.pool, rewards=self.pool.rewards - self.earned)
        write_pool(self._state, self._validator, self.pool)
        if self.earned:
            account = compute_pool_account(self._validator)
            ledger.pay_held(self._state, account, HoldReason.DELEGATION, self._who, self.earned)
        return self.earned

    def _settle_main(self) -> None:
        settled, earned = settle(self._state, self._validator, self.pool, self.main, self._height)
        whole, rest = divmod(settled.rest + earned, INDEX_SCALE)
        self.main = replace(settled, rest=rest)
        self.earned += whole

    def _open_membership(self, votes_until: int, source: bytes, member: Membership) -> None:
        cohort = cohorts.read(self._state, source, votes_until, self._validator)
        assert cohort is not None, "a cohort lives as long as its members"
        cohort = realize(self._state, self._validator, self.pool, cohort, self._height)
        whole, rest = divmod(member.rest + member.shares * (cohort.index - member.start), INDEX_SCALE)
        self.earned += whole
        settled = Liable(votes_until, source, cohort, Membership(member.shares, cohort.index, rest))
        if self._height < cohort.until or cohort.fresh:
            self.liable.append(settled)
        else:
            self._merge(settled)

    def _merge(self, one: Liable) -> None:
        """The liability is over: the member's part of the cohort becomes ordinary delegation."""
        shares = compute_value(one.cohort.shares, one.cohort.members, one.member.shares)
        self.main = replace(self.main, shares=self.main.shares + shares)
        cohort = replace(one.cohort, shares=one.cohort.shares - shares, members=one.cohort.members - one.member.shares)
        self._close_liable(replace(one, cohort=cohort, member=replace(one.member, shares=0)))
        self.merged = True

    def _close_liable(self, one: Liable) -> None:
        key = (self._who, self._validator, one.votes_until, one.source)
        cohort, member = one.cohort, one.member
        if member.shares and not self.compute_liable_value(one):
            cohort = replace(cohort, members=cohort.members - member.shares)
            member = replace(member, shares=0)
        if member.shares:
            memberships.write(self._state, *key, member)
        else:
            memberships.delete(self._state, *key)
            cohort = replace(cohort, carry=cohort.carry + member.rest)
        if cohort.members:
            cohorts.write(self._state, one.source, one.votes_until, self._validator, cohort)
        else:
            self.pool, cohort = drop_shares(self.pool, cohort, cohort.shares)
            self.pool = replace(self.pool, carry=self.pool.carry + cohort.carry)
            cohorts.delete(self._state, one.source, one.votes_until, self._validator)

    def _buy_shares(self, amount: int) -> int:
        if self.pool.shares and not self.pool.tokens:
            raise PoolDrained("the validator was slashed to nothing")
        shares = compute_new_shares(self.pool.tokens, self.pool.shares, amount)
        if self.pool.shares + shares > SHARES_MAX:
            raise PoolDrained("the validator was slashed to next to nothing")
        self.pool = replace(self.pool, tokens=self.pool.tokens + amount)
        return shares

    def _open_cohort(self, source: bytes, votes_until: int, until: int) -> Cohort:
        """The cohort that a new member joins. Raises TooManyRedelegations when this epoch has no room for another."""
        found = cohorts.read(self._state, source, votes_until, self._validator)
        if found is not None:
            return realize(self._state, self._validator, self.pool, found, self._height)
        if sum(1 for _ in cohorts.iterate(self._state, source, votes_until)) >= COHORTS_MAX:
            raise TooManyRedelegations(f"stake went from there to {COHORTS_MAX} validators in this epoch already")
        known = outflows.read(self._state, source) or NO_OUTFLOWS
        latest = max([until, *(one.until for one in known.epochs if one.votes_until == votes_until)])
        live = [one for one in known.epochs if one.until > self._height and one.votes_until != votes_until]
        if len(live) >= OUTFLOW_EPOCHS_MAX:
            raise TooManyRedelegations(f"stake from there is liable for {OUTFLOW_EPOCHS_MAX} epochs already")
        outflows.write(self._state, source, Outflows((*live, Outflow(votes_until, latest))))
        return Cohort(0, 0, 0, self.pool.index, 0, 0, 0, until)

    def _take_main(self, part: int, *, is_all: bool) -> int:
        part = self.main_value if is_all else part
        shares = self.main.shares if is_all else compute_shares_of(self.pool.tokens, self.pool.shares, part)
        self.pool, self.main = drop_shares(self.pool, self.main, shares)
        self.pool = replace(self.pool, tokens=self.pool.tokens - part)
        return part

    def _take_liable(self, index: int, part: int, *, is_all: bool) -> int:
        one = self.liable[index]
        cohort, members = one.cohort, one.member.shares
        if is_all:
            part = self.compute_liable_value(one)
            shares = compute_value(cohort.shares, cohort.members, members)
        else:
            shares = compute_shares_of(self.pool.tokens, self.pool.shares, part)
            members = compute_shares_of(cohort.shares, cohort.members, shares)
        self.pool, cohort = drop_shares(self.pool, cohort, shares)
        self.pool = replace(self.pool, tokens=self.pool.tokens - part)
        cohort = replace(cohort, members=cohort.members - members)
        member = replace(one.member, shares=one.member.shares - members)
        self.liable[index] = replace(one, cohort=cohort, member=member)
        return part
