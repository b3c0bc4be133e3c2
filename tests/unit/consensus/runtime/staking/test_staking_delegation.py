"""Delegate, undelegate, redelegate, claim: what each does, how each fails, and what a failure leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.balances.errors import InsufficientBalance
from consensus.runtime.balances.state import HoldReason, read_account, read_hold
from consensus.runtime.staking import errors, pool_state, queries
from consensus.runtime.staking.events import DelegationPaid, DelegatorsRewarded, EpochEnded, ValidatorRewarded
from consensus.runtime.staking.pools import compute_new_shares, compute_shares_of, compute_value
from proto_specs.types import calls
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking.staking_world import (
    ALICE,
    BOB,
    CHARLIE,
    CLIENT,
    DAVE,
    EVE,
    FERDIE,
    MYL,
    STAKE,
    build_evidence,
    build_spec,
    check_pools,
    find,
    to_epoch_end,
)

LEAST = 1_000_000


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_spec())


def value(chain: Chain, who: Any = EVE, validator: Any = ALICE) -> int:
    """nmyl that `who` has behind `validator`."""
    return queries.query_delegation(chain.state, who.account, validator.account).amount


def pending(chain: Chain, who: Any = EVE, validator: Any = ALICE) -> int:
    """nmyl a claim would pay."""
    return queries.query_delegation(chain.state, who.account, validator.account).pending


def test_delegated_money_leaves_the_account_and_counts_from_the_next_election(chain: Chain) -> None:
    before = chain.free(EVE)
    receipt = chain.expect_ok(EVE, calls.Delegate(ALICE.account, 500 * MYL))
    assert chain.free(EVE) == before - receipt.fee - 500 * MYL
    pool_account = pool_state.compute_pool_account(ALICE.account)
    assert read_hold(chain.state, pool_account, HoldReason.DELEGATION) == 500 * MYL
    assert value(chain) == 500 * MYL
    info = queries.query_validator(chain.state, ALICE.account)
    assert info is not None
    assert (info.own, info.delegated, info.power) == (STAKE, 500 * MYL, STAKE)
    to_epoch_end(chain)
    info = queries.query_validator(chain.state, ALICE.account)
    assert info is not None
    assert info.power == STAKE + 500 * MYL


def test_delegate_is_checked(chain: Chain) -> None:
    chain.expect_error(EVE, calls.Delegate(ALICE.account, 0), errors.ZeroStake)
    chain.expect_error(EVE, calls.Delegate(FERDIE.account, LEAST), errors.NoValidator)
    chain.expect_error(EVE, calls.Delegate(ALICE.account, LEAST - 1), errors.DelegationTooSmall)
    chain.expect_error(EVE, calls.Delegate(ALICE.account, 1 << 63), InsufficientBalance)
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, LEAST))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 1))
    chain.block(evidence=[build_evidence(chain, BOB, 2)])
    chain.expect_error(EVE, calls.Delegate(BOB.account, LEAST), errors.Tombstoned)
    chain.expect_ok(CHARLIE, calls.RetireValidator())
    chain.expect_error(EVE, calls.Delegate(CHARLIE.account, LEAST), errors.NoValidator)


def test_nothing_is_delegated_behind_what_was_slashed_to_nothing() -> None:
    spec = build_spec(downtime_slash_permille=1_000, validator_stake_min=0)
    # A proposal's deposit is never above what a validator needs as stake.
    governance = replace(spec.params.governance, proposal_deposit=0)
    chain = Chain(replace(spec, params=replace(spec.params, governance=governance)))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, MYL))
    to_epoch_end(chain, absent=(ALICE,))
    chain.proposer = BOB
    assert value(chain) == 0
    chain.expect_error(FERDIE, calls.Delegate(ALICE.account, MYL), errors.PoolDrained)
    chain.expect_error(EVE, calls.Undelegate(ALICE.account, 1), errors.InsufficientDelegation)
    chain.expect_ok(EVE, calls.ClaimRewards(ALICE.account))
    check_pools(chain.state)
    chain.expect_error(EVE, calls.ClaimRewards(ALICE.account), errors.NoDelegation)
    chain.expect_ok(FERDIE, calls.Delegate(ALICE.account, MYL))


def test_undelegated_money_waits_and_returns(chain: Chain) -> None:
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 10 * MYL))
    chain.expect_ok(EVE, calls.Undelegate(ALICE.account, 4 * MYL))
    height = chain.height + chain.spec.params.staking.unbonding_blocks
    assert value(chain) == 6 * MYL
    assert read_hold(chain.state, EVE.account, HoldReason.DELEGATION) == 4 * MYL
    assert queries.list_unbonding(chain.state, EVE.account) == [
        queries.UnbondingInfo(ALICE.account, 4 * MYL, 0, height)
    ]
    chain.skip(height - chain.height - 2)
    chain.expect_error(EVE, calls.WithdrawUnbonded(), errors.NothingToWithdraw)
    before = chain.free(EVE)
    receipt = chain.expect_ok(EVE, calls.WithdrawUnbonded())
    assert chain.free(EVE) == before - receipt.fee + 4 * MYL
    assert read_account(chain.state, EVE.account).reserved == 0
    assert queries.list_unbonding(chain.state, EVE.account) == []


def test_own_and_delegated_stake_are_withdrawn_together(chain: Chain) -> None:
    chain.expect_ok(BOB, calls.Delegate(ALICE.account, 2 * MYL))
    chain.expect_ok(BOB, calls.Unbond(MYL))
    chain.expect_ok(BOB, calls.Undelegate(ALICE.account, 2 * MYL))
    chain.skip(chain.spec.params.staking.unbonding_blocks)
    before = chain.free(BOB)
    receipt = chain.expect_ok(BOB, calls.WithdrawUnbonded())
    assert chain.free(BOB) == before - receipt.fee + 3 * MYL
    assert list(pool_state.pools.iterate(chain.state)) == []


def test_undelegate_is_checked(chain: Chain) -> None:
    chain.expect_error(EVE, calls.Undelegate(ALICE.account, 0), errors.ZeroStake)
    chain.expect_error(EVE, calls.Undelegate(ALICE.account, 1), errors.NoDelegation)
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 100 * MYL))
    chain.expect_error(EVE, calls.Undelegate(ALICE.account, 100 * MYL + 1), errors.InsufficientDelegation)
    chain.expect_error(EVE, calls.Undelegate(ALICE.account, 100 * MYL - 1), errors.DelegationTooSmall)
    chain.expect_error(EVE, calls.Undelegate(ALICE.account, LEAST - 1), errors.DelegationTooSmall)
    for _ in range(pool_state.LEAVING_MAX):
        chain.expect_ok(EVE, calls.Undelegate(ALICE.account, LEAST))
    chain.expect_error(EVE, calls.Undelegate(ALICE.account, LEAST), errors.TooManyUnbonding)


def test_what_a_slash_left_below_the_minimum_can_leave_whole(chain: Chain) -> None:
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, LEAST))
    to_epoch_end(chain, absent=(ALICE,))
    chain.proposer = BOB
    left = value(chain)
    assert left < LEAST
    chain.expect_error(EVE, calls.Undelegate(ALICE.account, left - 1), errors.DelegationTooSmall)
    chain.expect_ok(EVE, calls.Undelegate(ALICE.account, left))
    assert value(chain) == 0


def test_redelegated_stake_counts_at_once_and_cannot_move_on(chain: Chain) -> None:
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 10 * MYL))
    chain.expect_ok(EVE, calls.Redelegate(ALICE.account, BOB.account, 4 * MYL))
    until = 10 + chain.spec.params.staking.unbonding_blocks
    assert queries.list_delegations(chain.state, EVE.account) == sorted(
        [
            queries.DelegationInfo(ALICE.account, 6 * MYL, 0, ()),
            queries.DelegationInfo(BOB.account, 4 * MYL, 0, (queries.RedelegationInfo(ALICE.account, 4 * MYL, until),)),
        ],
        key=lambda one: one.validator,
    )
    chain.expect_error(EVE, calls.Redelegate(BOB.account, CHARLIE.account, 4 * MYL), errors.StillLiable)
    chain.expect_error(EVE, calls.Redelegate(BOB.account, ALICE.account, 4 * MYL), errors.StillLiable)
    to_epoch_end(chain)
    info = queries.query_validator(chain.state, BOB.account)
    assert info is not None
    assert info.power == STAKE + 4 * MYL
    chain.skip(until - chain.height - 2)
    chain.expect_error(EVE, calls.Redelegate(BOB.account, CHARLIE.account, 4 * MYL), errors.StillLiable)
    chain.expect_ok(EVE, calls.Redelegate(BOB.account, CHARLIE.account, 4 * MYL))
    check_pools(chain.state)
    assert value(chain, EVE, BOB) == 0
    assert value(chain, EVE, CHARLIE) == 4 * MYL
    keys = [key for key, _ in pool_state.cohorts.iterate(chain.state)]
    assert [(source, dest) for source, _, dest in keys] == [(BOB.account, CHARLIE.account)]


def test_redelegate_is_checked(chain: Chain) -> None:
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 10 * LEAST))
    to = calls.Redelegate
    chain.expect_error(EVE, to(ALICE.account, BOB.account, 0), errors.ZeroStake)
    chain.expect_error(EVE, to(ALICE.account, ALICE.account, LEAST), errors.SameValidator)
    chain.expect_error(EVE, to(ALICE.account, FERDIE.account, LEAST), errors.NoValidator)
    chain.expect_error(EVE, to(BOB.account, ALICE.account, LEAST), errors.NoDelegation)
    chain.expect_error(EVE, to(ALICE.account, BOB.account, 11 * LEAST), errors.InsufficientDelegation)
    chain.expect_error(EVE, to(ALICE.account, BOB.account, LEAST - 1), errors.DelegationTooSmall)
    chain.expect_error(EVE, to(ALICE.account, BOB.account, 10 * LEAST - 1), errors.DelegationTooSmall)
    chain.block(evidence=[build_evidence(chain, BOB, 1)])
    chain.expect_error(EVE, to(ALICE.account, BOB.account, LEAST), errors.Tombstoned)


def test_a_delegator_has_few_liable_redelegations_behind_one_validator() -> None:
    chain = Chain(build_spec(epoch_blocks=1, delegation_min=1, unbonding_blocks=120, downtime_permille=0))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, MYL))
    for _ in range(pool_state.REDELEGATIONS_MAX):
        chain.expect_ok(EVE, calls.Redelegate(ALICE.account, BOB.account, 1_000))
    chain.expect_error(EVE, calls.Redelegate(ALICE.account, BOB.account, 1_000), errors.TooManyRedelegations)
    chain.expect_ok(EVE, calls.Redelegate(ALICE.account, CHARLIE.account, 1_000))
    chain.expect_ok(EVE, calls.Undelegate(BOB.account, value(chain, EVE, BOB)))
    assert len(queries.list_unbonding(chain.state, EVE.account)) == pool_state.REDELEGATIONS_MAX
    check_pools(chain.state)


def test_rewards_by_the_numbers_of_the_spec_page() -> None:
    """staking.md, worked example."""
    chain = Chain(build_spec(("alice",), emission_per_epoch=20_000, worker_emission_permille=500, downtime_permille=0))
    chain.expect_ok(ALICE, calls.SetCommission(50))
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 60_000 * MYL))
    chain.expect_ok(FERDIE, calls.Delegate(ALICE.account, 40_000 * MYL))
    to_epoch_end(chain)
    assert pending(chain, EVE) == pending(chain, FERDIE) == 0, "stake earns from the epoch after it came"
    events = to_epoch_end(chain)
    assert find(events, ValidatorRewarded).amount == 4_000 + 200
    assert find(events, DelegatorsRewarded) == DelegatorsRewarded(ALICE.account, 3_800, 200)
    assert find(events, EpochEnded).minted == 8_000
    assert (pending(chain, EVE), pending(chain, FERDIE)) == (2_279, 1_519)
    receipt = chain.expect_ok(EVE, calls.ClaimRewards(ALICE.account))
    assert find(receipt.events, DelegationPaid).amount == 2_279
    chain.expect_error(EVE, calls.ClaimRewards(ALICE.account), errors.NothingToClaim)
    check_pools(chain.state)


def test_claim_is_checked(chain: Chain) -> None:
    chain.expect_error(EVE, calls.ClaimRewards(ALICE.account), errors.NoDelegation)
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, MYL))
    chain.expect_error(EVE, calls.ClaimRewards(ALICE.account), errors.NothingToClaim)


def test_leaving_and_joining_pay_what_was_earned(chain: Chain) -> None:
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 100 * MYL))
    for call in (
        calls.Delegate(ALICE.account, MYL),
        calls.Undelegate(ALICE.account, MYL),
        calls.Redelegate(ALICE.account, BOB.account, MYL),
    ):
        to_epoch_end(chain)
        to_epoch_end(chain)
        owed = pending(chain)
        assert owed > 0
        assert find(chain.expect_ok(EVE, call).events, DelegationPaid).amount == owed
        assert pending(chain) == 0


def test_what_a_redelegated_lot_earns_is_what_a_delegated_one_earns(chain: Chain) -> None:
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 50 * MYL))
    chain.expect_ok(EVE, calls.Redelegate(ALICE.account, BOB.account, 50 * MYL))
    chain.expect_ok(FERDIE, calls.Delegate(BOB.account, 50 * MYL))
    for _ in range(4):
        to_epoch_end(chain)
    assert pending(chain, EVE, BOB) > 0
    assert abs(pending(chain, EVE, BOB) - pending(chain, FERDIE, BOB)) <= 1
    chain.skip(10 + chain.spec.params.staking.unbonding_blocks - chain.height)
    owed = pending(chain, EVE, BOB)
    assert queries.query_delegation(chain.state, EVE.account, BOB.account).liable == ()
    chain.expect_ok(EVE, calls.ClaimRewards(BOB.account))
    to_epoch_end(chain)
    check_pools(chain.state)
    total = owed + pending(chain, EVE, BOB)
    assert abs(total - pending(chain, FERDIE, BOB)) <= 1, "merging into ordinary delegation neither gives nor takes"


def test_reward_is_independent_of_how_often_others_and_oneself_claim() -> None:
    chain = Chain(build_spec(("alice",), emission_per_epoch=2_000_003, downtime_permille=0))
    for who, amount in ((EVE, 7 * MYL), (FERDIE, 7 * MYL), (CLIENT, 13 * MYL), (DAVE, 3 * MYL)):
        chain.expect_ok(who, calls.Delegate(ALICE.account, amount))
    got = 0
    for _ in range(30):
        to_epoch_end(chain)
        for who in (EVE, CLIENT):
            if pending(chain, who):
                receipt = chain.expect_ok(who, calls.ClaimRewards(ALICE.account))
                got += find(receipt.events, DelegationPaid).amount * (who is EVE)
    assert got + pending(chain, EVE) == pending(chain, FERDIE) > 0
    check_pools(chain.state)


def test_the_last_to_leave_leaves_nothing(chain: Chain) -> None:
    for who, amount in ((EVE, 3 * MYL + 1), (FERDIE, 5 * MYL + 7)):
        chain.expect_ok(who, calls.Delegate(ALICE.account, amount))
    to_epoch_end(chain, absent=(ALICE,))
    chain.proposer = BOB
    for who in (EVE, FERDIE):
        chain.expect_ok(who, calls.Undelegate(ALICE.account, value(chain, who)))
    pool = pool_state.read_pool(chain.state, ALICE.account)
    assert (pool.tokens, pool.shares) == (0, 0)
    check_pools(chain.state)
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, MYL))
    assert value(chain) == MYL


def test_shares_round_in_favour_of_the_pool() -> None:
    assert compute_new_shares(0, 0, 5) == 5 << 32
    assert compute_new_shares(3, 10, 1) == 3
    assert compute_shares_of(3, 10, 1) == 4
    assert compute_value(3, 10, 4) == 1
    assert compute_value(3, 10, 3) == 0
    assert compute_value(0, 0, 0) == 0
