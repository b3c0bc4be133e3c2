"""Read access to stake for people: validators, delegations, pending rewards, leaving stake. Writes nothing.

Each answer is for the state after block `height` and matches what a call in the next block finds.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.runtime.staking import state as staking
from consensus.runtime.staking.book import Book
from consensus.runtime.staking.leave import compute_left
from consensus.runtime.staking.pool_state import EMPTY_QUEUE, delegations, leaving, memberships, read_pool
from consensus.runtime.system.state import read_now
from consensus.state.overlay import Overlay
from consensus.state.reader import StateReader
from proto_specs.types.common import AccountId


@dataclass(frozen=True, slots=True)
class ValidatorInfo:
    """A registered validator. `power` is its vote in the next block, 0 when it is not elected; amounts in nmyl.

    `next_commission_permille` differs from `commission_permille` while a change waits for the epoch's end;
    `jailed_until` is the block from which it may call Unjail, None when it is not jailed.
    """

    operator: AccountId
    consensus_key: bytes
    own: int
    delegated: int
    power: int
    commission_permille: int
    next_commission_permille: int
    is_standing: bool
    jailed_until: int | None
    is_tombstoned: bool


@dataclass(frozen=True, slots=True)
class RedelegationInfo:
    """`amount` nmyl redelegated from `source` and liable for it below block `until`."""

    source: AccountId
    amount: int
    until: int


@dataclass(frozen=True, slots=True)
class DelegationInfo:
    """An account's stake behind a validator: `amount` nmyl in all, some of it `liable`, and `pending` reward."""

    validator: AccountId
    amount: int
    pending: int
    liable: tuple[RedelegationInfo, ...]


@dataclass(frozen=True, slots=True)
class UnbondingInfo:
    """nmyl that can be withdrawn from block `height` on. `validator` is None for own stake.

    `amount` is the rest after the slashes so far, `slashed` what they took of delegated stake while it waits.
    """

    validator: AccountId | None
    amount: int
    slashed: int
    height: int


def query_validator(state: StateReader, operator: bytes) -> ValidatorInfo | None:
    """One validator by its operator's account; None when it never registered."""
    key = staking.keys.read(state, operator)
    if key is None:
        return None
    powers = {one.operator: one.power for one in staking.read_validators(state).members}
    return _describe(state, operator, key, powers)


def list_delegations(state: StateReader, who: bytes) -> list[DelegationInfo]:
    """The delegations of an account, by validator."""
    validators = {key[1] for key, _ in delegations.iterate(state, who)}
    validators |= {key[1] for key, _ in memberships.iterate(state, who)}
    return [query_delegation(state, who, one) for one in sorted(validators)]


def query_delegation(state: StateReader, who: bytes, validator: bytes) -> DelegationInfo:
    """An account's stake behind one validator; `pending` is what a claim in the next block pays."""
    book = Book(Overlay(state), who, validator, read_now(state).height + 1)
    liable = tuple(
        RedelegationInfo(one.source, book.compute_liable_value(one), one.cohort.until) for one in book.liable
    )
    return DelegationInfo(validator, book.value, book.earned, liable)


def list_unbonding(state: StateReader, who: bytes) -> list[UnbondingInfo]:
    """The leaving stake of an account: own stake, then delegated, each in the order of leaving."""
    own = [UnbondingInfo(None, one.amount, 0, one.height) for one in staking.read_stake(state, who).unbonding]
    queue = leaving.read(state, who) or EMPTY_QUEUE
    for one in queue.entries:
        left = compute_left(state, one)
        own.append(UnbondingInfo(one.validator, left, one.amount - left, one.height))
    return own


def _describe(state: StateReader, operator: bytes, key: bytes, powers: dict[bytes, int]) -> ValidatorInfo:
    height = read_now(state).height + 1
    after = (staking.commissions.read(state, operator) or staking.NO_COMMISSION).effective_after
    return ValidatorInfo(
        operator=operator,
        consensus_key=key,
        own=staking.read_stake(state, operator).bonded,
        delegated=read_pool(state, operator).tokens,
        power=powers.get(operator, 0),
        commission_permille=staking.read_commission(state, operator, height),
        next_commission_permille=staking.read_commission(state, operator, max(height, after + 1)),
        is_standing=staking.candidates.read(state, operator) is not None,
        jailed_until=staking.jailed.read(state, operator),
        is_tombstoned=staking.is_tombstoned(state, key),
    )
