"""State of delegations: pools, shares of them, redelegated cohorts, and leaving stake. Amounts in nmyl.

A validator's pool has `tokens` (nmyl) and `shares`; a delegation is a number of shares. A slash lowers the tokens and
touches no delegation. Rewards are F1 (arXiv 1910.01174): the pool keeps the cumulative reward of one share, `index`,
and each holding keeps the index up to which it is paid. Indices and remainders are in 1 / `INDEX_SCALE` nmyl, and
the remainder of a division stays in `carry`: at every moment, exactly,

    rewards x INDEX_SCALE == carry + the sum over all holdings of what they have earned and were not paid.

Shares earn from the epoch after they were bought; until then they are `fresh`. When an epoch with fresh shares is
over, its final index is kept as a milestone until every such holding has looked it up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from consensus.runtime.staking.wide import U128, U256, WideMap
from consensus.state.reader import StateReader
from consensus.state.storage import StateWriter, StorageMap
from proto_specs.codec import U32, U64, Max, record
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.common import AccountId, Balance

SHARES_PER_NMYL = 1 << 32
"""Shares for the first nmyl in a pool: so many that the rounding of a share is worth nothing."""

SHARES_MAX = 1 << 127
"""The most shares of a pool. A pool reaches it when slashes took nearly everything and new money came in."""

INDEX_SCALE = 1 << 128
LEAVING_MAX = 32
"""The most undelegated amounts that an account can have waiting."""

REDELEGATIONS_MAX = 8
"""The most liable redelegations that a delegator can have behind a validator."""

COHORTS_MAX = 64
"""The most validators to which a source's stake can be redelegated in an epoch; a slash of the source visits all."""

OUTFLOW_EPOCHS_MAX = 128
"""The most epochs whose redelegated stake is liable for a source. A slash visits up to `COHORTS_MAX` cohorts of each:
8,192, some 0.7 s on the reference machine. Sound parameters stay below: at the limit redelegation is blocked."""


@dataclass(frozen=True, slots=True)
class Pool:
    """All stake behind a validator. `rewards` is what the pool's account holds for delegators besides `tokens`.

    `fresh` shares of `fresh_holders` holdings were bought in the epoch that ends with block `fresh_until`.
    """

    tokens: Balance
    shares: U128
    fresh: U128
    fresh_holders: U32
    fresh_until: U64
    index: U256
    carry: U256
    rewards: Balance


@dataclass(frozen=True, slots=True)
class Delegation:
    """One account's shares of a pool, paid up to the pool's index `start` but for `rest` / INDEX_SCALE nmyl."""

    shares: U128
    fresh: U128
    fresh_until: U64
    start: U256
    rest: U128


@dataclass(frozen=True, slots=True)
class Cohort:
    """All stake redelegated from one validator to another in one epoch, as one holding of the new pool.

    It has `shares` of that pool, divided into `members` shares of its own. Liable for the source below block `until`.
    """

    shares: U128
    fresh: U128
    fresh_until: U64
    start: U256
    members: U128
    index: U256
    carry: U256
    until: U64


@dataclass(frozen=True, slots=True)
class Membership:
    """One account's shares of a cohort, paid up to the cohort's index `start` but for `rest` / INDEX_SCALE nmyl."""

    shares: U128
    start: U256
    rest: U128


@dataclass(frozen=True, slots=True)
class Milestone:
    """A pool's index at the end of an epoch in which `holders` holdings got shares and have not looked it up yet."""

    index: U256
    holders: U32


@record
class Outflow:
    """Stake was redelegated away in the epoch that ended with block `votes_until`; liable below block `until`."""

    votes_until: U64
    until: U64


@record
class Outflows:
    """The epochs from which a validator's redelegated stake may still be liable, in order."""

    epochs: Annotated[tuple[Outflow, ...], Max(OUTFLOW_EPOCHS_MAX)]


@record
class Liability:
    """Offences of `validator` up to block `votes_until`, punished below block `until`, reach the stake."""

    validator: AccountId
    votes_until: U64
    until: U64


@record
class Leaving:
    """Undelegated nmyl: left its pool in block `begun`, can be withdrawn from block `height` on.

    `amount` does not include the slashes that reach it while it waits: the withdrawal subtracts them.
    """

    validator: AccountId
    amount: Balance
    begun: U64
    height: U64
    liabilities: Annotated[tuple[Liability, ...], Max(2)]


@record
class LeavingQueue:
    """The amounts of one account that are leaving, in the order of leaving."""

    entries: Annotated[tuple[Leaving, ...], Max(LEAVING_MAX)]


EMPTY_POOL = Pool(0, 0, 0, 0, 0, 0, 0, 0)
EMPTY_DELEGATION = Delegation(0, 0, 0, 0, 0)
EMPTY_QUEUE = LeavingQueue(())
NO_OUTFLOWS = Outflows(())

pools: WideMap[Pool] = WideMap("staking.pool", (AccountId,), Pool)
delegations: WideMap[Delegation] = WideMap("staking.delegation", (AccountId, AccountId), Delegation)
"""By delegator, validator."""

cohorts: WideMap[Cohort] = WideMap("staking.cohort", (AccountId, U64, AccountId), Cohort)
"""By source, last block of the epoch of redelegation, destination."""

memberships: WideMap[Membership] = WideMap("staking.membership", (AccountId, AccountId, U64, AccountId), Membership)
"""By delegator, destination, last block of the epoch of redelegation, source."""

milestones: WideMap[Milestone] = WideMap("staking.milestone", (AccountId, U64), Milestone)
outflows: StorageMap[Outflows] = StorageMap("staking.outflow", (AccountId,), Outflows)
leaving: StorageMap[LeavingQueue] = StorageMap("staking.leaving", (AccountId,), LeavingQueue)


def compute_pool_account(validator: bytes) -> bytes:
    """The account that holds a pool's money. No key signs for it."""
    return hash_tagged(Tag.DELEGATION_POOL, validator)


def read_pool(state: StateReader, validator: bytes) -> Pool:
    """The pool of a validator as last written. Shares of a past epoch may still be marked fresh."""
    return pools.read(state, validator) or EMPTY_POOL


def write_pool(state: StateWriter, validator: bytes, pool: Pool) -> None:
    """Store a pool. A pool that never held anything leaves no record."""
    if pool == EMPTY_POOL:
        pools.delete(state, validator)
    else:
        pools.write(state, validator, pool)
