"""What somebody would try who wants more than is his, or to keep what a slash takes: it does not pay, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.balances.errors import InsufficientBalance
from consensus.runtime.balances.state import HoldReason, read_hold
from consensus.runtime.errors import BlockError
from consensus.runtime.staking import errors, pool_state, queries
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.events import (
    DelegationPaid,
    DelegationsSlashed,
    DelegatorsRewarded,
    ValidatorRewarded,
    ValidatorSlashed,
    Withdrawn,
)
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from proto_specs.types import calls
from proto_specs.types.chain import DuplicateVote
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking_world import (
    ALICE,
    BOB,
    CHARLIE,
    CLIENT,
    DAVE,
    EPOCH,
    EVE,
    FERDIE,
    FOUR,
    MYL,
    STAKE,
    build_evidence,
    build_spec,
    check_pools,
    find,
    register,
    to_epoch_end,
)

LEAST = 1_000_000
EVIDENCE = 15
TIGHT = {"evidence_blocks": EVIDENCE, "evidence_ms": 1_000, "unbonding_blocks": EVIDENCE + EPOCH}
"""The shortest unbonding there can be."""


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_spec())


def value(chain: Chain, who: DevIdentity, validator: DevIdentity = ALICE) -> int:
    """nmyl that `who` has behind `validator`."""
    return queries.query_delegation(chain.state, who.account, validator.account).amount


def pending(chain: Chain, who: DevIdentity, validator: DevIdentity = ALICE) -> int:
    """nmyl a claim would pay."""
    return queries.query_delegation(chain.state, who.account, validator.account).pending


def all_in(chain: Chain, who: DevIdentity, *validators: DevIdentity) -> int:
    """nmyl that `who` has behind validators and on its way out."""
    leaving = sum(one.amount for one in queries.list_unbonding(chain.state, who.account))
    return leaving + sum(value(chain, who, one) for one in validators)


def submit_all(chain: Chain, who: DevIdentity, *all_calls: Any) -> None:
    """One block in which one account makes these calls, and all succeed."""
    nonce = chain.sign(who, all_calls[0]).body.nonce
    block = chain.block([chain.sign(who, one, nonce + index) for index, one in enumerate(all_calls)])
    assert [one.error for one in block.receipts] == [None] * len(all_calls)


def convict(chain: Chain, who: DevIdentity, height: int) -> None:
    """A block with the evidence; somebody who is still there proposes from now on."""
    chain.block(evidence=[build_evidence(chain, who, height)])
    chain.proposer = next(one for one in (DAVE, CHARLIE, BOB) if one is not who)


def test_a_first_depositor_cannot_inflate_shares_by_a_donation(chain: Chain) -> None:
    """Tokens are what was delegated, not what the pool's account owns: money sent there is lost to who sends it."""
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, LEAST))
    chain.expect_ok(EVE, calls.Transfer(pool_state.compute_pool_account(ALICE.account), 1_000 * MYL))
    chain.expect_ok(FERDIE, calls.Delegate(ALICE.account, 2 * LEAST - 1))
    assert (value(chain, EVE), value(chain, FERDIE)) == (LEAST, 2 * LEAST - 1)
    to_epoch_end(chain)
    to_epoch_end(chain)
    assert pending(chain, EVE) > 0
    assert (value(chain, EVE), value(chain, FERDIE)) == (LEAST, 2 * LEAST - 1), "rewards make no share dearer"
    chain.expect_ok(EVE, calls.Undelegate(ALICE.account, LEAST))
    assert value(chain, FERDIE) == 2 * LEAST - 1
    check_pools(chain.state)


def test_tiny_moves_in_a_slashed_pool_gain_nothing_and_cost_the_others_nothing() -> None:
    chain = Chain(build_spec(downtime_slash_permille=77, delegation_min=1, unbonding_blocks=30, evidence_blocks=20))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 10_007))
    chain.expect_ok(FERDIE, calls.Delegate(ALICE.account, 7))
    to_epoch_end(chain, absent=(ALICE,))
    chain.proposer = BOB
    eve, ferdie = all_in(chain, EVE, ALICE), value(chain, FERDIE)
    for amount in (1, 2, 3, 1, 5, 1, 1, 8):
        chain.expect_ok(EVE, calls.Delegate(ALICE.account, amount))
        chain.expect_ok(EVE, calls.Undelegate(ALICE.account, amount))
        assert all_in(chain, EVE, ALICE) <= eve + amount
        eve += amount
        assert value(chain, FERDIE) >= ferdie
    check_pools(chain.state)


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


def test_who_leaves_takes_every_record_along(chain: Chain) -> None:
    """State grows by what is at stake only: each record holds the minimum, or has a bounded number of places."""
    before = {key for key in chain.state.items if EVE.account in key}
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 3 * LEAST))
    chain.expect_error(EVE, calls.Undelegate(ALICE.account, 2 * LEAST + 1), errors.DelegationTooSmall)
    chain.expect_ok(EVE, calls.Redelegate(ALICE.account, BOB.account, LEAST))
    to_epoch_end(chain)
    to_epoch_end(chain)
    for validator in (ALICE, BOB):
        chain.expect_ok(EVE, calls.Undelegate(validator.account, value(chain, EVE, validator)))
    chain.skip(chain.spec.params.staking.unbonding_blocks)
    chain.expect_ok(EVE, calls.WithdrawUnbonded())
    assert {key for key in chain.state.items if EVE.account in key} - before == set()
    for kind in (pool_state.cohorts, pool_state.milestones):
        assert list(kind.iterate(chain.state)) == []
    assert all(
        pool.tokens + pool.shares == 0 and pool.rewards <= 1 for _, pool in pool_state.pools.iterate(chain.state)
    )


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


def test_commission_raised_in_an_epochs_last_block_is_not_paid_for_that_epoch(chain: Chain) -> None:
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, STAKE))
    to_epoch_end(chain)
    chain.skip(EPOCH - 2)
    chain.expect_ok(ALICE, calls.SetCommission(40))
    chain.expect_ok(ALICE, calls.SetCommission(50))
    assert chain.last is not None
    assert find([one for one in chain.last.events.finalize if is_of(one, ALICE)], DelegatorsRewarded).commission == 0
    rewarded = find([one for one in to_epoch_end(chain) if is_of(one, ALICE)], DelegatorsRewarded)
    assert rewarded.commission == (rewarded.amount + rewarded.commission) * 50 // 1_000


def is_of(event: Any, validator: DevIdentity) -> bool:
    """Whether it tells of delegators' rewards behind this validator."""
    return isinstance(event, DelegatorsRewarded) and event.validator == validator.account


def test_commission_steps_do_not_add_up_within_an_epoch(chain: Chain) -> None:
    chain.expect_ok(ALICE, calls.SetCommission(50))
    chain.expect_error(ALICE, calls.SetCommission(51), errors.CommissionStepTooLarge)
    chain.expect_ok(ALICE, calls.RetireValidator())
    chain.expect_ok(ALICE, register(ALICE))
    chain.expect_error(ALICE, calls.SetCommission(51), errors.CommissionStepTooLarge)
    to_epoch_end(chain)
    chain.expect_error(ALICE, calls.SetCommission(101), errors.CommissionStepTooLarge)
    chain.expect_ok(ALICE, calls.SetCommission(100))


def test_nobody_leaves_jail_early() -> None:
    """Not by asking, not by standing again, not by more stake; with another account it would take other stake."""
    chain = Chain(build_spec(jail_blocks=EPOCH + 5))
    chain.expect_error(ALICE, calls.Unjail(), errors.NotJailed)
    to_epoch_end(chain, absent=(ALICE,))
    chain.proposer = BOB
    until = chain.height + EPOCH + 5
    chain.expect_error(ALICE, calls.Unjail(), errors.StillJailed)
    chain.expect_ok(ALICE, calls.Bond(STAKE))
    chain.expect_ok(ALICE, calls.RetireValidator())
    chain.expect_ok(ALICE, register(ALICE))
    chain.expect_error(EVE, register(ALICE), errors.KeyTaken)
    to_epoch_end(chain)
    assert ALICE.account not in {one.operator for one in staking.read_validators(chain.state).members}
    chain.skip(until - chain.height - 2)
    chain.expect_error(ALICE, calls.Unjail(), errors.StillJailed)
    chain.expect_ok(ALICE, calls.Unjail())
    to_epoch_end(chain)
    assert ALICE.account in {one.operator for one in staking.read_validators(chain.state).members}


def test_an_offence_is_punished_once(chain: Chain) -> None:
    """Not again in the block, nor later, nor with the votes swapped, nor by another pair of the key's votes."""
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, MYL))
    chain.skip(3)
    evidence = build_evidence(chain, ALICE, 2)
    swapped = DuplicateVote(evidence.second, evidence.first)
    for twice in ((evidence, evidence), (evidence, swapped), (evidence, build_evidence(chain, ALICE, 3))):
        with pytest.raises(BlockError):
            chain.block(evidence=twice)
    convict(chain, ALICE, 2)
    left = staking.read_stake(chain.state, ALICE.account), value(chain, EVE)
    for again in (evidence, swapped, build_evidence(chain, ALICE, 3)):
        with pytest.raises(BlockError):
            chain.block(evidence=[again])
    to_epoch_end(chain)
    assert (staking.read_stake(chain.state, ALICE.account), value(chain, EVE)) == left, "nor for its absence since"


def test_delegating_in_circles_makes_no_power(chain: Chain) -> None:
    """Delegated money is held: every nmyl votes once, whoever it is delegated to and through."""
    half = chain.free(ALICE) // 2
    for who, other in ((ALICE, BOB), (BOB, ALICE), (ALICE, ALICE)):
        chain.expect_ok(who, calls.Delegate(other.account, half - 10 * MYL))
    chain.expect_error(ALICE, calls.Delegate(CHARLIE.account, half), InsufficientBalance)
    chain.expect_ok(ALICE, calls.Undelegate(BOB.account, MYL))
    chain.expect_error(ALICE, calls.Delegate(CHARLIE.account, 30 * MYL), InsufficientBalance)
    to_epoch_end(chain)
    power = sum(one.power for one in staking.read_validators(chain.state).members)
    assert power == 4 * STAKE + 3 * (half - 10 * MYL) - MYL


def test_stake_delegated_to_oneself_is_not_own_stake(chain: Chain) -> None:
    """It would be no bond: the minimum has to be own stake, or a validator could stand on others' money alone."""
    least = chain.spec.params.staking.validator_stake_min
    chain.expect_ok(ALICE, calls.Delegate(ALICE.account, STAKE))
    chain.expect_ok(ALICE, calls.Unbond(STAKE - least + 1))
    to_epoch_end(chain)
    assert ALICE.account not in {one.operator for one in staking.read_validators(chain.state).members}
    assert staking.candidates.read(chain.state, ALICE.account) is None


def test_delegating_to_oneself_earns_and_risks_what_bonding_does() -> None:
    results = []
    for call in (calls.Bond(STAKE), calls.Delegate(ALICE.account, STAKE)):
        chain = Chain(build_spec())
        chain.expect_ok(ALICE, calls.SetCommission(50))
        chain.expect_ok(ALICE, call)
        to_epoch_end(chain)
        events = [one for one in to_epoch_end(chain) if isinstance(one, ValidatorRewarded)]
        rewarded = sum(one.amount for one in events if one.operator == ALICE.account) + pending(chain, ALICE)
        convict(chain, ALICE, chain.height)
        stake = staking.read_stake(chain.state, ALICE.account).bonded + value(chain, ALICE)
        results.append((rewarded, stake))
    assert abs(results[0][0] - results[1][0]) <= 1
    assert results[0][1] == results[1][1] == 2 * STAKE * 7 // 16


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


def test_many_small_delegations_and_claims_earn_no_more_than_one() -> None:
    """Fractions of a nmyl are kept for whoever earned them, paid when they are whole, and never rounded up."""
    pieces = [get_dev_identity(f"piece {number}") for number in range(7)]
    spec = build_dev_spec(("alice",), names=(*(one.name for one in pieces), "eve"))
    params = replace(spec.params.staking, emission_per_epoch=20_011, downtime_permille=0, delegation_min=1)
    chain = Chain(replace(spec, params=replace(spec.params, staking=params)))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 7 * 3_333 * MYL))
    chain.block([chain.sign(one, calls.Delegate(ALICE.account, 3_333 * MYL)) for one in pieces])
    got = 0
    for _ in range(12):
        to_epoch_end(chain)
        for one in pieces:
            if pending(chain, one):
                receipt = chain.expect_ok(one, calls.ClaimRewards(ALICE.account))
                got += find(receipt.events, DelegationPaid).amount
                chain.expect_error(one, calls.ClaimRewards(ALICE.account), errors.NothingToClaim)
    to_epoch_end(chain)
    got += sum(pending(chain, one) for one in pieces)
    assert 0 < pending(chain, EVE) - len(pieces) < got <= pending(chain, EVE)
    check_pools(chain.state)
