"""The arithmetic of delegation pools: shares for money, rewards for shares. Every rounding favours the pool."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.staking.pool_state import (
    INDEX_SCALE,
    SHARES_PER_NMYL,
    Cohort,
    Delegation,
    Milestone,
    Pool,
    compute_pool_account,
    milestones,
    read_pool,
    write_pool,
)
from consensus.state.storage import StateWriter

Holding = TypeVar("Holding", Delegation, Cohort)
"""A holder of shares of a pool."""


def compute_new_shares(tokens: int, shares: int, amount: int) -> int:
    """How many shares of a pool `amount` nmyl buy."""
    return amount * shares // tokens if shares else amount * SHARES_PER_NMYL


def compute_value(tokens: int, shares: int, held: int) -> int:
    """How many nmyl `held` shares are worth."""
    return held * tokens // shares if held else 0


def compute_shares_of(tokens: int, shares: int, amount: int) -> int:
    """How many shares leave the pool together with `amount` nmyl."""
    return -(-amount * shares // tokens)


def open_pool(state: StateWriter, validator: bytes, height: int) -> Pool:
    """A validator's pool as of block `height`. Shares bought in past epochs earn."""
    pool = read_pool(state, validator)
    if not pool.fresh_holders or height <= pool.fresh_until:
        return pool
    milestones.write(state, validator, pool.fresh_until, Milestone(pool.index, pool.fresh_holders))
    opened = replace(pool, fresh=0, fresh_holders=0, fresh_until=0)
    write_pool(state, validator, opened)
    return opened


def settle(state: StateWriter, validator: bytes, pool: Pool, held: Holding, height: int) -> tuple[Holding, int]:
    """Returns the holding, paid up to the opened pool's index, and its earnings since then in 1 / INDEX_SCALE nmyl."""
    earned = (held.shares - held.fresh) * (pool.index - held.start)
    if not held.fresh or height <= held.fresh_until:
        return replace(held, start=pool.index), earned
    earned += held.fresh * (pool.index - _look_up(state, validator, held.fresh_until))
    return replace(held, start=pool.index, fresh=0, fresh_until=0), earned


def add_shares(pool: Pool, held: Holding, shares: int, epoch_end: int) -> tuple[Pool, Holding]:
    """Give a settled holding new shares, which earn after the epoch's end."""
    fresh_until = pool.fresh_until if pool.fresh_holders else epoch_end
    grown = replace(
        pool,
        shares=pool.shares + shares,
        fresh=pool.fresh + shares,
        fresh_holders=pool.fresh_holders + (not held.fresh),
        fresh_until=fresh_until,
    )
    return grown, replace(held, shares=held.shares + shares, fresh=held.fresh + shares, fresh_until=fresh_until)


def drop_shares(pool: Pool, held: Holding, shares: int) -> tuple[Pool, Holding]:
    """Take shares from a settled holding, fresh ones first."""
    assert shares <= held.shares, "nobody loses more than it has"
    fresh = min(shares, held.fresh)
    is_last = 0 < fresh == held.fresh
    holders = pool.fresh_holders - is_last
    shrunk = replace(
        pool,
        shares=pool.shares - shares,
        fresh=pool.fresh - fresh,
        fresh_holders=holders,
        fresh_until=pool.fresh_until if holders else 0,
    )
    return shrunk, replace(
        held,
        shares=held.shares - shares,
        fresh=held.fresh - fresh,
        fresh_until=0 if is_last else held.fresh_until,
    )


def pay_in(state: StateWriter, validator: bytes, amount: int, height: int) -> int:
    """Mint an epoch's reward into the pool; returns the nmyl minted. It is 0 when no share stood all epoch, or
    when slashes took everything: such a pool's validator can still be the last of the set, which stays.
    """
    pool = open_pool(state, validator, height)
    earning = pool.shares - pool.fresh
    if not earning or not pool.tokens or not amount:
        return 0
    step, carry = divmod(amount * INDEX_SCALE + pool.carry, earning)
    paid = replace(pool, index=pool.index + step, carry=carry, rewards=pool.rewards + amount)
    write_pool(state, validator, paid)
    account = compute_pool_account(validator)
    ledger.mint(state, account, amount)
    ledger.hold(state, account, HoldReason.DELEGATION, amount)
    return amount


def realize(state: StateWriter, dest: bytes, pool: Pool, cohort: Cohort, height: int) -> Cohort:
    """Distribute a cohort's earnings from the opened pool to its members' index."""
    settled, earned = settle(state, dest, pool, cohort, height)
    step, carry = divmod(settled.carry + earned, settled.members)
    return replace(settled, index=settled.index + step, carry=carry)


def _look_up(state: StateWriter, validator: bytes, height: int) -> int:
    """The index at a milestone, for one of its holders. The last holder deletes the milestone."""
    found = milestones.read(state, validator, height)
    assert found is not None, "a milestone stays for as long as somebody needs it"
    if found.holders > 1:
        milestones.write(state, validator, height, replace(found, holders=found.holders - 1))
    else:
        milestones.delete(state, validator, height)
    return found.index
