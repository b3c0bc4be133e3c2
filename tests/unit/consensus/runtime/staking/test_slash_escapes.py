"""What somebody would try who has to fear a slash: leave, move, split, hide in a crowd, be punished for it before."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.balances.state import HoldReason, read_hold
from consensus.runtime.errors import BlockError
from consensus.runtime.staking import errors, pool_state, queries
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.events import (
    DelegationsSlashed,
    DelegatorsRewarded,
    ValidatorJailed,
    ValidatorSlashed,
    Withdrawn,
)
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.types import calls
from proto_specs.types.chain import DuplicateVote
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking.staking_world import (
    ALICE,
    BOB,
    CHARLIE,
    CLIENT,
    DAVE,
    EPOCH,
    EVE,
    FERDIE,
    FOUR,
    LEAST,
    MYL,
    STAKE,
    all_in,
    build_double_proposal,
    build_evidence,
    build_spec,
    check_pools,
    convict,
    find,
    submit_all,
    to_epoch_end,
    value,
)

EVIDENCE = 15
TIGHT = {"evidence_blocks": EVIDENCE, "evidence_ms": 1_000, "unbonding_blocks": EVIDENCE + EPOCH}
"""The shortest unbonding there can be."""


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_spec())


@pytest.mark.parametrize("is_own", [False, True])
def test_leaving_in_many_pieces_saves_nothing_of_a_slash(is_own: bool) -> None:
    """Rounded down, a slash of a tenth would take nothing of 9 nmyl; rounded up, it takes a unit of each piece."""
    chain = Chain(build_spec(downtime_slash_permille=100, delegation_min=1))
    for who in (CHARLIE, DAVE):
        chain.expect_ok(who, calls.Delegate(CHARLIE.account, 288 + 1))
    to_epoch_end(chain)
    move: Any = calls.Unbond if is_own else lambda amount: calls.Undelegate(CHARLIE.account, amount)
    first = (CHARLIE, DAVE)[not is_own]
    submit_all(chain, first, *[move(9)] * 32)
    if not is_own:
        chain.expect_ok(CHARLIE, move(288))
    to_epoch_end(chain, absent=(CHARLIE,))
    left = [one.amount for one in queries.list_unbonding(chain.state, first.account)]
    assert left == [8] * 32
    if not is_own:
        (whole,) = queries.list_unbonding(chain.state, CHARLIE.account)
        assert whole.amount == 288 - 29 > sum(left)
    chain.skip(chain.spec.params.staking.unbonding_blocks)
    assert find(chain.expect_ok(first, calls.WithdrawUnbonded()).events, Withdrawn).amount == 8 * 32


def test_a_slash_costs_the_same_however_many_delegate() -> None:
    names = tuple(f"delegator {number}" for number in range(40))
    changed = []
    for count in (1, len(names)):
        spec = build_dev_spec(FOUR, names=(*names, "client"))
        chain = Chain(spec)
        chain.block([chain.sign(get_dev_identity(one), calls.Delegate(ALICE.account, LEAST)) for one in names[:count]])
        chain.skip(EPOCH - 2)
        keys = [one.consensus_key.public_key for one in (BOB, CHARLIE, DAVE)]
        convicted = chain.block(evidence=[build_evidence(chain, ALICE, 1)], signed_by=keys)
        changed.append(len(convicted.changes))
        check_pools(chain.state)
    assert changed[0] == changed[1]


def test_stake_of_one_validator_spreads_to_few_others_in_an_epoch() -> None:
    """What a slash has to visit is bounded: further on one joins who went before, or undelegates."""
    names = tuple(f"validator {number}" for number in range(pool_state.COHORTS_MAX + 2))
    chain = Chain(replace_max(build_dev_spec(("alice", *names), names=("eve", "ferdie"))))
    others = [get_dev_identity(one) for one in names]
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 1_000 * LEAST))
    chain.expect_ok(FERDIE, calls.Delegate(ALICE.account, 10 * LEAST))
    first = others[: pool_state.COHORTS_MAX]
    submit_all(chain, EVE, *(calls.Redelegate(ALICE.account, one.account, 2 * LEAST) for one in first))
    last = calls.Redelegate(ALICE.account, others[-1].account, LEAST)
    chain.expect_error(FERDIE, last, errors.TooManyRedelegations)
    chain.expect_ok(FERDIE, calls.Redelegate(ALICE.account, first[0].account, LEAST))
    chain.proposer = others[0]
    slashed = chain.block(evidence=[build_evidence(chain, ALICE, 1)]).events.initialize
    told = find(slashed, DelegationsSlashed)
    assert told.redelegated == 2 * LEAST * len(first) * 50 // 1_000 + LEAST * 50 // 1_000
    check_pools(chain.state)


def replace_max(spec: Any) -> Any:
    """The spec with room for all its validators."""
    params = replace(spec.params.staking, validators_max=len(spec.validators), evidence_ms=10**9)
    return replace(spec, params=replace(spec.params, staking=params))


def test_an_offence_is_punished_once(chain: Chain) -> None:
    """Not again in the block, nor later, nor with the votes swapped, nor by another pair of its votes or proposals."""
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, MYL))
    chain.skip(3)
    evidence = build_evidence(chain, ALICE, 2)
    swapped = DuplicateVote(evidence.second, evidence.first)
    proposals = build_double_proposal(chain, ALICE, 2)
    others = evidence, swapped, build_evidence(chain, ALICE, 3), proposals, build_double_proposal(chain, ALICE, 3)
    for twice in [(one, other) for one in (evidence, proposals) for other in others]:
        with pytest.raises(BlockError):
            chain.block(evidence=twice)
    convict(chain, ALICE, 2)
    left = staking.read_stake(chain.state, ALICE.account), value(chain, EVE)
    for again in others:
        with pytest.raises(BlockError):
            chain.block(evidence=[again])
    to_epoch_end(chain)
    assert (staking.read_stake(chain.state, ALICE.account), value(chain, EVE)) == left, "nor for its absence since"


def test_who_retires_and_is_long_out_of_the_set_still_answers_for_its_votes(chain: Chain) -> None:
    chain.skip(3)
    chain.proposer = BOB
    chain.expect_ok(ALICE, calls.RetireValidator())
    chain.expect_ok(ALICE, calls.Unbond(STAKE))
    to_epoch_end(chain)
    to_epoch_end(chain)
    assert ALICE.account not in {one.operator for one in staking.read_validators(chain.state).members}
    convict(chain, ALICE, 3)
    # Three are left, and one was found guilty: (3 / 3)^2.
    assert staking.read_stake(chain.state, ALICE.account) == staking.EMPTY_STAKE
    chain.skip(chain.spec.params.staking.unbonding_blocks)
    chain.expect_error(ALICE, calls.WithdrawUnbonded(), errors.NothingToWithdraw)


@pytest.mark.parametrize("validators_max", [20, 70])
def test_evidence_held_back_until_the_next_epoch_makes_nothing_cheaper(validators_max: int) -> None:
    """Five of twenty at fault in one epoch: the fifth loses (15 / 20)^2, in the same epoch or a later one."""
    names = tuple(f"validator {number}" for number in range(20))
    who = [get_dev_identity(one) for one in names]
    lost = []
    for is_late in (False, True):
        spec = build_dev_spec(names, names=("eve",))
        staking_params = replace(spec.params.staking, validators_max=validators_max, downtime_permille=0)
        chain = Chain(replace(spec, params=replace(spec.params, staking=staking_params)), proposer=names[-1])
        chain.block(evidence=[build_evidence(chain, one, 1) for one in who[:4]])
        if is_late:
            to_epoch_end(chain)
            chain.block()
        before = staking.read_stake(chain.state, who[4].account).bonded
        chain.block(evidence=[build_evidence(chain, who[4], 1)])
        lost.append(before - staking.read_stake(chain.state, who[4].account).bonded)
        other = staking.read_stake(chain.state, who[5].account).bonded
        chain.block(evidence=[build_evidence(chain, who[5], 11)] if is_late else [])
        after = staking.read_stake(chain.state, who[5].account).bonded
        assert other - after == (other * 50 // 1_000 if is_late else 0), "another epoch counts by itself"
    assert lost == [STAKE * 9 // 16] * 2


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_hop_after_the_offence_escapes_nothing(epochs: int) -> None:
    """eve hops when she hears of the offence, ferdie stays, the client hops and undelegates: they lose the same."""
    chain = Chain(build_spec())
    for who in (EVE, FERDIE, CLIENT, DAVE):
        chain.expect_ok(who, calls.Delegate(ALICE.account, 16 * MYL))
    to_epoch_end(chain)
    chain.expect_ok(DAVE, calls.Redelegate(ALICE.account, BOB.account, 16 * MYL))
    for _ in range(epochs):
        to_epoch_end(chain)
    offence = chain.height + epochs
    for who in (EVE, CLIENT):
        chain.expect_ok(who, calls.Redelegate(ALICE.account, BOB.account, 16 * MYL))
        chain.expect_error(who, calls.Redelegate(BOB.account, CHARLIE.account, 16 * MYL), errors.StillLiable)
        chain.expect_error(who, calls.Redelegate(BOB.account, ALICE.account, 16 * MYL), errors.StillLiable)
    chain.expect_ok(CLIENT, calls.Undelegate(BOB.account, 16 * MYL))
    to_epoch_end(chain)
    to_epoch_end(chain)
    convict(chain, ALICE, offence)
    everybody = [all_in(chain, who, ALICE, BOB) for who in (EVE, FERDIE, CLIENT)]
    assert everybody == [7 * MYL] * 3
    went_before = 16 * MYL if epochs else 7 * MYL
    assert all_in(chain, DAVE, BOB) == went_before, "who went in an epoch before the offence has nothing to do with it"
    convict(chain, BOB, offence)
    assert all_in(chain, EVE, BOB) < everybody[0], "and stands for where it went"
    assert all_in(chain, CLIENT, BOB) < everybody[2]
    check_pools(chain.state)


@pytest.mark.parametrize("is_late", [False, True])
def test_leaving_before_the_evidence_comes_escapes_nothing(is_late: bool) -> None:
    """The worst there can be: out in an epoch's first block, the offence in its last, the evidence in its last hour."""
    chain = Chain(build_spec(**TIGHT))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 16 * MYL))
    to_epoch_end(chain)
    leave = [chain.sign(EVE, calls.Undelegate(ALICE.account, 16 * MYL)), chain.sign(ALICE, calls.Unbond(16 * MYL))]
    assert [one.error for one in chain.block(leave).receipts] == [None, None]
    begun, offence = EPOCH + 1, 2 * EPOCH
    assert chain.height == begun
    chain.skip(offence + EVIDENCE - 1 - begun + is_late)
    evidence = build_evidence(chain, ALICE, offence)
    if is_late:
        with pytest.raises(BlockError, match="expired"):
            chain.block(evidence=[evidence])
        for who in (EVE, ALICE):
            receipt = chain.expect_ok(who, calls.WithdrawUnbonded())
            assert find(receipt.events, Withdrawn).amount == 16 * MYL
        return
    chain.block(evidence=[evidence])
    assert chain.height + 1 == begun + TIGHT["unbonding_blocks"], "the next block would have paid"
    chain.proposer = BOB
    for who in (EVE, ALICE):
        receipt = chain.expect_ok(who, calls.WithdrawUnbonded())
        assert find(receipt.events, Withdrawn).amount == 7 * MYL
        assert read_hold(chain.state, who.account, HoldReason.DELEGATION) == 0


def test_the_oldest_evidence_of_the_block_that_pays_is_of_a_vote_the_stake_had_no_part_in() -> None:
    chain = Chain(build_spec(**TIGHT))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 16 * MYL))
    chain.expect_ok(EVE, calls.Undelegate(ALICE.account, 16 * MYL))
    chain.skip(TIGHT["unbonding_blocks"] - 1)
    withdraw = chain.sign(EVE, calls.WithdrawUnbonded())
    keys = [one.consensus_key.public_key for one in (BOB, CHARLIE, DAVE)]
    chain.proposer = BOB
    oldest = chain.height + 1 - EVIDENCE
    with pytest.raises(BlockError, match="expired"):
        chain.block([withdraw], [build_evidence(chain, ALICE, oldest - 1)], signed_by=keys)
    block = chain.block([withdraw], [build_evidence(chain, ALICE, oldest)], signed_by=keys)
    assert find(block.events.initialize, ValidatorSlashed).height == oldest > EPOCH
    assert find(block.receipts[0].events, Withdrawn).amount == 16 * MYL


@pytest.mark.parametrize("late", [0, 1])
def test_old_evidence_reaches_what_is_not_free_yet(late: int) -> None:
    """Evidence too young in time may be older than `unbonding_blocks`: it takes what cannot be withdrawn before it."""
    chain = Chain(build_spec(**(TIGHT | {"evidence_ms": 10**9})))
    for who in (EVE, FERDIE):
        chain.expect_ok(who, calls.Delegate(ALICE.account, 16 * MYL))
    to_epoch_end(chain)
    chain.expect_ok(FERDIE, calls.Redelegate(ALICE.account, BOB.account, 16 * MYL))
    liable_until = 2 * EPOCH + TIGHT["unbonding_blocks"]
    leave = [chain.sign(EVE, calls.Undelegate(ALICE.account, 16 * MYL)), chain.sign(ALICE, calls.Unbond(16 * MYL))]
    assert [one.error for one in chain.block(leave).receipts] == [None, None]
    free_at = chain.height + TIGHT["unbonding_blocks"]
    chain.skip(free_at - 2 - chain.height + late)
    convict(chain, ALICE, EPOCH + 2)
    assert chain.height == free_at - 1 + late
    chain.skip(1)
    for who in (EVE, ALICE):
        receipt = chain.expect_ok(who, calls.WithdrawUnbonded())
        assert find(receipt.events, Withdrawn).amount == (16 if late else 7) * MYL
    assert value(chain, FERDIE, BOB) == 7 * MYL, "what moved is liable from its epoch's end on"
    assert chain.height < liable_until


@pytest.mark.parametrize("late", [0, 1])
def test_a_redelegation_is_liable_below_its_end(late: int) -> None:
    chain = Chain(build_spec(**(TIGHT | {"evidence_ms": 10**9})))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 16 * MYL))
    chain.expect_ok(EVE, calls.Redelegate(ALICE.account, BOB.account, 16 * MYL))
    until = EPOCH + TIGHT["unbonding_blocks"]
    chain.skip(until - 2 - chain.height + late)
    convict(chain, ALICE, 2)
    assert chain.height == until - 1 + late
    assert value(chain, EVE, BOB) == (16 if late else 7) * MYL


def test_the_last_validator_is_not_punished_for_absence_when_it_is_convicted() -> None:
    chain = Chain(build_spec(("alice",)))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, MYL))
    to_epoch_end(chain)
    assert [one for one in to_epoch_end(chain) if isinstance(one, DelegatorsRewarded)]
    chain.block(evidence=[build_evidence(chain, ALICE, 1)])
    assert (value(chain, EVE), staking.read_stake(chain.state, ALICE.account)) == (0, staking.EMPTY_STAKE)
    for _ in range(2):
        events = to_epoch_end(chain, absent=(ALICE,))
        assert not [one for one in events if isinstance(one, ValidatorJailed)]
        assert [one.operator for one in staking.read_validators(chain.state).members] == [ALICE.account]
    rewarded = [one for one in to_epoch_end(chain) if isinstance(one, DelegatorsRewarded)]
    assert rewarded == [], "nothing is left that could earn"
