"""Slashing. Economics: two messages for one slot, or a vote for a header that no correct node finds valid, can only
come from the key's owner, so stake is burned at once.

The share burned is min((3 k / n)^2, 1) for the k-th offender of an epoch among n validators: a lone fault costs
little, a third of the validators at fault together (what it takes to break safety) costs all. The epoch is that of the
offence, so holding evidence back until the next epoch saves nothing. The share is never below
`double_vote_slash_permille`. Earlier offenders of the same epoch are not charged again. The key is tombstoned: it is
never elected and never slashed again. It leaves the set with this block, unless the set would be empty.

A slash reaches all stake that voted at the time of the offence, whoever owns it: the operator's stake and what it
unbonds, delegated stake, stake undelegated since (computed at its withdrawal, leave.py) and redelegated since.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.bft.errors import EvidenceError
from consensus.bft.evidence import get_accused, get_offence_height, validate_signatures
from consensus.runtime.arithmetic import PERMILLE, compute_cut
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.errors import BlockError
from consensus.runtime.staking import state as staking
from consensus.runtime.staking import turns
from consensus.runtime.staking.calls import write_stake
from consensus.runtime.staking.events import DelegationsSlashed, ValidatorSlashed
from consensus.runtime.staking.false_votes import find_contradiction
from consensus.runtime.staking.pool_state import (
    NO_OUTFLOWS,
    Cohort,
    cohorts,
    compute_pool_account,
    outflows,
    read_pool,
    write_pool,
)
from consensus.runtime.staking.pools import compute_value, drop_shares, open_pool, realize
from consensus.runtime.system.state import read_block_info
from consensus.state.reader import StateReader
from proto_specs.types.chain import Evidence, FalseVote, ValidatorSet


def validate_evidence(state: StateReader, evidence: Evidence, genesis: bytes, height: int, time_ms: int) -> None:
    """Raises BlockError unless the evidence convicts a registered key, in time and for the first time.

    `height` and `time_ms` are of the block that carries the evidence. Nodes check this before they gossip or propose.
    """
    accused, offence = get_accused(evidence), get_offence_height(evidence)
    try:
        validate_signatures(evidence, genesis)
    except EvidenceError as error:
        raise BlockError(f"evidence: {error}") from error
    if staking.read_operator(state, accused) is None:
        raise BlockError("evidence: the accused key is no validator's")
    if staking.is_tombstoned(state, accused):
        raise BlockError("evidence: the accused key was convicted before")
    if offence > height:
        raise BlockError("evidence: signed for a future height")
    if is_evidence_expired(state, offence, height, time_ms):
        raise BlockError(f"evidence of block {offence} has expired")
    if isinstance(evidence, FalseVote) and find_contradiction(state, evidence) is None:
        raise BlockError("evidence: the header contradicts nothing that is known of the chain")


def is_evidence_expired(state: StateReader, offence_height: int, height: int, time_ms: int) -> bool:
    """Too many blocks old AND too much time old. A block that the state has forgotten counts as too old in time."""
    params = staking.read_params(state)
    if height - offence_height <= params.evidence_blocks:
        return False
    info = read_block_info(state, offence_height)
    return info is None or time_ms - info.time_ms > params.evidence_ms


def apply_evidence(env: Environment, evidence: Evidence) -> None:
    """Check, slash, tombstone. Raises BlockError as `validate_evidence` does."""
    block = env.block
    validate_evidence(env.state, evidence, block.genesis, block.height, block.time_ms)
    key = get_accused(evidence)
    operator = staking.read_operator(env.state, key)
    assert operator is not None, "validated above"
    params, offence = staking.read_params(env.state), get_offence_height(evidence)
    offenders = _count_offender(env, staking.compute_epoch_end(params, offence))
    members = len(staking.read_validators(env.state).members)
    count = min(members + offenders - 1, max(members, params.validators_max))
    numerator, denominator = compute_slash_fraction(offenders, count, params.double_vote_slash_permille)
    amount = slash_stake(env, operator, offence, numerator, denominator)
    slash_delegations(env, operator, offence, numerator, denominator)
    convicted = staking.Conviction(offence, block.height, numerator, denominator)
    staking.convictions.write(env.state, operator, convicted)
    staking.tombstones.write(env.state, key, offence)
    _remove_from_set(env, key)
    env.emit(ValidatorSlashed(operator, key, offence, amount))


def _count_offender(env: Environment, epoch_end: int) -> int:
    """Number of convicts, this one included, of the offence's epoch. Evidence can come late."""
    count = (staking.offenders.read(env.state, epoch_end) or 0) + 1
    staking.offenders.write(env.state, epoch_end, count)
    return count


def compute_slash_fraction(offenders: int, validators: int, least_permille: int) -> tuple[int, int]:
    """(numerator, denominator) of min((3 k / n)^2, 1), at least `least_permille` thousandths."""
    numerator, denominator = min(3 * offenders, validators) ** 2, validators**2
    if numerator * PERMILLE < least_permille * denominator:
        return least_permille, PERMILLE
    return numerator, denominator


def slash_stake(env: Environment, operator: bytes, offence_height: int, numerator: int, denominator: int) -> int:
    """Burn that fraction of the operator's stake, and of its unbonding stake that voted at the time of the offence.

    Each amount's cut is rounded up, so splitting into 32 small amounts saves nothing. Returns the nmyl burned.
    """
    stake = staking.read_stake(env.state, operator)
    bonded = compute_cut(stake.bonded, numerator, denominator)
    cuts = [
        compute_cut(one.amount, numerator, denominator)
        if offence_height <= one.votes_until and env.block.height < one.height
        else 0
        for one in stake.unbonding
    ]
    left = tuple(
        replace(one, amount=one.amount - cut)
        for one, cut in zip(stake.unbonding, cuts, strict=True)
        if one.amount > cut
    )
    write_stake(env, operator, staking.Stake(stake.bonded - bonded, left))
    burned = bonded + sum(cuts)
    ledger.burn_held(env.state, operator, HoldReason.STAKE, burned)
    return burned


def slash_delegations(env: Environment, operator: bytes, offence_height: int, numerator: int, denominator: int) -> None:
    """Burn that fraction of the stake delegated to the operator, and of the stake redelegated since the offence.

    It visits one pool and a bounded number of cohorts, however many accounts hold shares of them. A pool's burn is
    rounded down, once per slash: rounding up could leave a tiny pool with worthless shares, which no delegator can
    join (PoolDrained). A cohort loses shares, rounded up.
    """
    pool = read_pool(env.state, operator)
    delegated = pool.tokens * numerator // denominator
    if delegated:
        write_pool(env.state, operator, replace(pool, tokens=pool.tokens - delegated))
        ledger.burn_held(env.state, compute_pool_account(operator), HoldReason.DELEGATION, delegated)
    redelegated = 0
    for one in (outflows.read(env.state, operator) or NO_OUTFLOWS).epochs:
        if offence_height <= one.votes_until and env.block.height < one.until:
            for (_, _, dest), cohort in cohorts.iterate(env.state, operator, one.votes_until):
                redelegated += _slash_cohort(env, (operator, one.votes_until, dest), cohort, numerator, denominator)
    if delegated or redelegated:
        env.emit(DelegationsSlashed(operator, delegated, redelegated))


def _slash_cohort(
    env: Environment, key: tuple[bytes, int, bytes], cohort: Cohort, numerator: int, denominator: int
) -> int:
    """Burn that fraction of a cohort's shares of its new pool, at their value there; returns the nmyl burned."""
    height, dest = env.block.height, key[2]
    if cohort.until <= height:
        return 0
    pool = open_pool(env.state, dest, height)
    cohort = realize(env.state, dest, pool, cohort, height)
    shares = compute_cut(cohort.shares, numerator, denominator)
    burned = compute_value(pool.tokens, pool.shares, shares)
    pool, cohort = drop_shares(pool, cohort, shares)
    write_pool(env.state, dest, replace(pool, tokens=pool.tokens - burned))
    cohorts.write(env.state, *key, cohort)
    ledger.burn_held(env.state, compute_pool_account(dest), HoldReason.DELEGATION, burned)
    return burned


def _remove_from_set(env: Environment, key: bytes) -> None:
    members = staking.validators.read(env.state).members
    past, elected = staking.participation.read(env.state), staking.elected.read(env.state)
    kept = [index for index, member in enumerate(members) if member.key != key]
    if not kept or len(kept) == len(members):
        return
    staking.validators.write(env.state, ValidatorSet(tuple(members[index] for index in kept)))
    staking.proposals.write(env.state, turns.keep_members(env.state, kept))
    signed = tuple(past.signed[index] for index in kept)
    staking.participation.write(env.state, staking.Participation(past.blocks, signed))
    own, joined = tuple(elected.own[index] for index in kept), tuple(elected.joined[index] for index in kept)
    staking.elected.write(env.state, staking.Elected(own, joined))
