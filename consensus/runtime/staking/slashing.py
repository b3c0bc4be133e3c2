"""Double votes. Economics: two votes for one slot can only come from the key's owner, so stake is burned at once.

The share burned is min((3 k / n)^2, 1) for the k-th offender of an epoch among n validators: a lone fault costs
little, a third of the validators at fault together (what it takes to break safety) costs all. It is never below
`double_vote_slash_permille`. Earlier offenders of the same epoch are not charged again. The key is tombstoned: barred
from election for ever, and from a second slash. It leaves the set with this block, unless nobody would remain.
"""

from __future__ import annotations

from consensus.bft.errors import EvidenceError
from consensus.bft.evidence import validate_duplicate_vote
from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.errors import BlockError
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.calls import write_stake
from consensus.runtime.staking.events import ValidatorSlashed
from consensus.runtime.system.state import read_block_info
from consensus.state.reader import StateReader
from proto_specs.types.chain import DuplicateVote, ValidatorSet


def validate_evidence(state: StateReader, evidence: DuplicateVote, genesis: bytes, height: int, time_ms: int) -> None:
    """Raises BlockError unless the evidence convicts a registered key, in time and for the first time.

    `height` and `time_ms` are those of the block that is to carry it. A node asks this before it gossips or proposes.
    """
    accused = evidence.first
    try:
        validate_duplicate_vote(evidence, genesis)
    except EvidenceError as error:
        raise BlockError(f"evidence: {error}") from error
    if staking.read_operator(state, accused.validator) is None:
        raise BlockError("evidence: the accused key is no validator's")
    if staking.is_tombstoned(state, accused.validator):
        raise BlockError("evidence: the accused key was convicted before")
    if accused.height > height:
        raise BlockError("evidence: votes of a future height")
    if is_evidence_expired(state, accused.height, height, time_ms):
        raise BlockError(f"evidence of block {accused.height} has expired")


def is_evidence_expired(state: StateReader, vote_height: int, height: int, time_ms: int) -> bool:
    """Too many blocks old AND too much time old. A block too old to be remembered counts as too old in time."""
    params = staking.read_params(state)
    if height - vote_height <= params.evidence_blocks:
        return False
    info = read_block_info(state, vote_height)
    return info is None or time_ms - info.time_ms > params.evidence_ms


def apply_evidence(env: Environment, evidence: DuplicateVote) -> None:
    """Check, slash, tombstone. Raises BlockError as `validate_evidence` does."""
    block = env.block
    validate_evidence(env.state, evidence, block.genesis, block.height, block.time_ms)
    key = evidence.first.validator
    operator = staking.read_operator(env.state, key)
    assert operator is not None, "validated above"
    offenders = staking.epoch_offenders.read(env.state) + 1
    staking.epoch_offenders.write(env.state, offenders)
    params = staking.read_params(env.state)
    count = len(staking.read_validators(env.state).members) + offenders - 1
    numerator, denominator = compute_slash_fraction(offenders, count, params.double_vote_slash_permille)
    amount = _slash_stake(env, operator, numerator, denominator)
    staking.tombstones.write(env.state, key, evidence.first.height)
    _remove_from_set(env, key)
    env.emit(ValidatorSlashed(operator, key, evidence.first.height, amount))


def compute_slash_fraction(offenders: int, validators: int, least_permille: int) -> tuple[int, int]:
    """(numerator, denominator) of min((3 k / n)^2, 1), at least `least_permille` thousandths."""
    numerator, denominator = min(3 * offenders, validators) ** 2, validators**2
    if numerator * PERMILLE < least_permille * denominator:
        return least_permille, PERMILLE
    return numerator, denominator


def _slash_stake(env: Environment, operator: bytes, numerator: int, denominator: int) -> int:
    """Burn that fraction of the bonded and of every unbonding amount, each rounded down; returns the nmyl burned."""
    stake = staking.read_stake(env.state, operator)
    bonded = stake.bonded * numerator // denominator
    chunks = [one.amount * numerator // denominator for one in stake.unbonding]
    left = tuple(
        staking.Unbonding(one.amount - cut, one.height)
        for one, cut in zip(stake.unbonding, chunks, strict=True)
        if one.amount > cut
    )
    write_stake(env, operator, staking.Stake(stake.bonded - bonded, left))
    burned = bonded + sum(chunks)
    ledger.burn_held(env.state, operator, HoldReason.STAKE, burned)
    return burned


def _remove_from_set(env: Environment, key: bytes) -> None:
    members = staking.validators.read(env.state).members
    past = staking.participation.read(env.state)
    kept = [index for index, member in enumerate(members) if member.key != key]
    if not kept or len(kept) == len(members):
        return
    staking.validators.write(env.state, ValidatorSet(tuple(members[index] for index in kept)))
    signed = tuple(past.signed[index] for index in kept)
    staking.participation.write(env.state, staking.Participation(past.blocks, signed))
