"""Stakes, candidates, the elected validators and their signatures in this epoch. Amounts in nmyl, times in blocks."""

from __future__ import annotations

from typing import Annotated

from consensus.state.reader import StateReader
from consensus.state.storage import StorageMap, StorageValue
from proto_specs.codec import U8, U16, U32, U64, Max, record
from proto_specs.limits import VALIDATORS_MAX
from proto_specs.types.chain import ValidatorSet
from proto_specs.types.common import AccountId, Balance, Hash32, PublicKey

UNBONDING_CHUNKS_MAX = 32


@record
class StakingParams:
    """Election, unbonding, evidence and emission.

    Evidence expires when it is older than `evidence_blocks` AND than `evidence_ms`. Emission per epoch starts at
    `emission_per_epoch` and halves every `emission_halving_epochs`; the issuance never exceeds `issuance_max`. Of it,
    `worker_emission_permille` goes to workers, `audit_emission_permille` to verifiers for audits, the rest to block
    producers. A validator that signed less than `downtime_permille` of an epoch's commits is slashed
    `downtime_slash_permille` and jailed for `jail_blocks`. Commission is at most `commission_permille_max` and moves at
    most `commission_step_permille` an epoch. Of the producers' part `proposal_permille` is paid by the turn to propose;
    who misses most of its turns in an epoch, and more than `declines_max`, is treated as one that is absent.
    """

    epoch_blocks: U32
    validators_max: U16
    validator_stake_min: Balance
    unbonding_blocks: U32
    evidence_blocks: U32
    evidence_ms: U64
    double_vote_slash_permille: U16
    emission_per_epoch: Balance
    emission_halving_epochs: U32
    issuance_max: Balance
    worker_emission_permille: U16
    audit_emission_permille: U16
    delegation_min: Balance
    commission_permille_max: U16
    commission_step_permille: U16
    downtime_permille: U16
    downtime_slash_permille: U16
    jail_blocks: U32
    proposal_permille: U16
    declines_max: U16


@record
class Unbonding:
    """Unbonding own stake; it can be withdrawn from block `height` on.

    It had voting power up to block `votes_until`, the end of the epoch in which it left: offences up to there reach it.
    """

    amount: Balance
    height: U64
    votes_until: U64


@record
class Stake:
    """One account's stake. `bonded` counts in elections; both parts can be slashed. Held as HoldReason.STAKE."""

    bonded: Balance
    unbonding: Annotated[tuple[Unbonding, ...], Max(UNBONDING_CHUNKS_MAX)]


@record
class Participation:
    """How many of this epoch's commits each current validator signed, in the order of the set."""

    blocks: U32
    signed: Annotated[tuple[U32, ...], Max(VALIDATORS_MAX)]


@record
class Proposals:
    """Turns to propose in this epoch's `blocks`, in the order of the set: how many each member had, and took."""

    blocks: U32
    turns: Annotated[tuple[U32, ...], Max(VALIDATORS_MAX)]
    made: Annotated[tuple[U32, ...], Max(VALIDATORS_MAX)]


@record
class Skips:
    """Rounds that passed without a decision before the one whose proposer made the block: in the last two blocks."""

    before: U8
    last: U8


@record
class Maker:
    """Who made a recent block, and the hash of the set that decides it."""

    key: PublicKey
    validators_hash: Hash32


@record
class Elected:
    """The last election's result for each validator, in the order of the set: the base of its pay and its duties.

    `own` is the operator's own stake within the power. `joined` is 1 for a validator that was not in the set before:
    it could not sign the block of the epoch's first counted commit.
    """

    own: Annotated[tuple[Balance, ...], Max(VALIDATORS_MAX)]
    joined: Annotated[tuple[U8, ...], Max(VALIDATORS_MAX)]


@record
class Commission:
    """The operator's share of its delegators' rewards. In blocks above `effective_after` the pending value holds."""

    current_permille: U16
    pending_permille: U16
    effective_after: U64


@record
class Conviction:
    """Double-signing at block `offence_height`, punished at the start of block `height` by numerator / denominator."""

    offence_height: U64
    height: U64
    numerator: U64
    denominator: U64


EMPTY_STAKE = Stake(0, ())
NO_COMMISSION = Commission(0, 0, 0)

params: StorageValue[StakingParams] = StorageValue("staking.params", StakingParams)
stakes: StorageMap[Stake] = StorageMap("staking.stake", (AccountId,), Stake)
candidates: StorageMap[bytes] = StorageMap("staking.candidate", (AccountId,), PublicKey)
operators: StorageMap[bytes] = StorageMap("staking.operator", (PublicKey,), AccountId)
keys: StorageMap[bytes] = StorageMap("staking.key", (AccountId,), PublicKey)
"""The consensus key of an operator, for life: an offence of the past always finds its stake."""

commissions: StorageMap[Commission] = StorageMap("staking.commission", (AccountId,), Commission)
jailed: StorageMap[int] = StorageMap("staking.jailed", (AccountId,), U64)
"""Jailed operators, with the block from which each may call Unjail."""

convictions: StorageMap[Conviction] = StorageMap("staking.conviction", (AccountId,), Conviction)
downtimes: StorageMap[int] = StorageMap("staking.downtime", (AccountId, U64), U16)
"""Permille slashed of an operator for the epoch that ended with a block: stake that left in it still owes it."""

tombstones: StorageMap[int] = StorageMap("staking.tombstone", (PublicKey,), U64)
validators: StorageValue[ValidatorSet] = StorageValue("staking.validators", ValidatorSet)
participation: StorageValue[Participation] = StorageValue("staking.participation", Participation)
elected: StorageValue[Elected] = StorageValue("staking.elected", Elected)
proposals: StorageValue[Proposals] = StorageValue("staking.proposals", Proposals)
skips: StorageValue[Skips] = StorageValue("staking.skips", Skips, Skips(0, 0))
makers: StorageMap[Maker] = StorageMap("staking.maker", (U64,), Maker)

rotation: StorageValue[bytes] = StorageValue("staking.rotation", Annotated[bytes, Max(16 * VALIDATORS_MAX)])
"""Proposer priorities of the next block, in the order of the set, 16 bytes each (consensus.md)."""

offenders: StorageMap[int] = StorageMap("staking.offenders", (U64,), U32)
"""Number of keys convicted so far of double-signing in the epoch that ended with a block. No record for zero."""


def read_params(state: StateReader) -> StakingParams:
    """The module's parameters."""
    return params.read(state)


def read_stake(state: StateReader, who: bytes) -> Stake:
    """The account's stake, empty when it never bonded."""
    return stakes.read(state, who) or EMPTY_STAKE


def read_validators(state: StateReader) -> ValidatorSet:
    """The validators who decide the NEXT block: for the state after block h, those of block h + 1."""
    return validators.read(state)


def read_participation(state: StateReader) -> Participation:
    """Signed commits of the running epoch, in the order of `read_validators`."""
    return participation.read(state)


def read_operator(state: StateReader, consensus_key: bytes) -> bytes | None:
    """The account that registered a consensus key, tombstoned or not."""
    return operators.read(state, consensus_key)


def list_candidates(state: StateReader) -> list[tuple[bytes, bytes]]:
    """(operator, consensus key) of every candidate for election, by account."""
    return [(key[0], consensus_key) for key, consensus_key in candidates.iterate(state)]


def count_recent_skips(state: StateReader) -> int:
    """Rounds skipped in the block that executes and in the one before."""
    found = skips.read(state)
    return found.before + found.last


def read_priorities(state: StateReader) -> bytes:
    """Proposer priorities of the next block, in the order of the set, as `ProposerRotation` encodes them."""
    return rotation.read(state)


def is_tombstoned(state: StateReader, consensus_key: bytes) -> bool:
    """Whether the key double-signed, so that it is never elected again."""
    return tombstones.read(state, consensus_key) is not None


def read_commission(state: StateReader, operator: bytes, height: int) -> int:
    """The permille an operator keeps of its delegators' rewards when block `height` pays them."""
    found = commissions.read(state, operator) or NO_COMMISSION
    permille = found.pending_permille if height > found.effective_after else found.current_permille
    return min(permille, read_params(state).commission_permille_max)


def is_convicted(state: StateReader, operator: bytes) -> bool:
    """Whether the operator's key double-signed, so that the operator is out for good."""
    return convictions.read(state, operator) is not None


def compute_epoch(params: StakingParams, height: int) -> int:
    """The epoch of a block: blocks 1..epoch_blocks are epoch 0."""
    return (height - 1) // params.epoch_blocks


def compute_epoch_end(params: StakingParams, height: int) -> int:
    """The last block of the epoch of block `height`."""
    return -(-height // params.epoch_blocks) * params.epoch_blocks


def is_epoch_end(params: StakingParams, height: int) -> bool:
    """Whether the epoch's last block is `height`."""
    return height % params.epoch_blocks == 0
