"""What somebody would try who wants more than is his of pools, rewards and power: it does not pay, and why."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.balances.errors import InsufficientBalance
from consensus.runtime.staking import errors, pool_state
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.events import (
    DelegationPaid,
    DelegatorsRewarded,
    ValidatorRewarded,
)
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from proto_specs.types import calls
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking.staking_world import (
    ALICE,
    BOB,
    CHARLIE,
    EPOCH,
    EVE,
    FERDIE,
    LEAST,
    MYL,
    STAKE,
    all_in,
    build_spec,
    check_pools,
    convict,
    find,
    pending,
    register,
    to_epoch_end,
    value,
)


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_spec())


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


def test_who_comes_just_before_a_payout_takes_nothing_of_it(chain: Chain) -> None:
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, MYL))
    to_epoch_end(chain)
    chain.skip(EPOCH - 2)
    chain.expect_ok(FERDIE, calls.Delegate(ALICE.account, 100_000 * MYL))
    chain.block()
    assert chain.last is not None
    paid = find([one for one in chain.last.events.finalize if is_of(one, ALICE)], DelegatorsRewarded).amount
    assert paid - 1 <= pending(chain, EVE) <= paid
    assert pending(chain, FERDIE) == 0
    chain.expect_ok(FERDIE, calls.Undelegate(ALICE.account, 100_000 * MYL))
    check_pools(chain.state)


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
