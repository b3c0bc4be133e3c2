"""Workers that are away: the quorum, what reports cost and how long they count, leaving, and prices that change."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.runtime.inference import errors, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.absence_events import WorkerAbsent, WorkerReported, WorkerReturned
from consensus.runtime.inference.events import StagePaid, WorkerReleased, WorkerUpdated
from consensus.runtime.inference.state import Worker, WorkerStatus
from genesis.dev import DevIdentity, get_dev_identity
from proto_specs.types import calls
from proto_specs.types.request import PathStage
from tests.unit.consensus.runtime.inference.inference_world import BOND, PRICE, World, pick

FOUR = ("alice", "ferdie", "grace", "heidi")
"""Each has a quarter of the stake: three make a quorum, two do not."""
EVE = get_dev_identity("eve")


def make_four() -> World:
    return World(FOUR)


def read(world: World, who: DevIdentity) -> Worker:
    found = queries.read_worker(world.chain.state, who.worker_key.public_key)
    assert found is not None
    return found


def report(who: DevIdentity) -> calls.ReportAbsent:
    return calls.ReportAbsent(who.worker_key.public_key)


def leave(who: DevIdentity) -> calls.LeaveWorker:
    return calls.LeaveWorker(who.worker_key.public_key)


def announce(who: DevIdentity, prefill: int = PRICE // 2, decode: int = PRICE) -> calls.UpdateWorker:
    key = who.worker_key.public_key
    return calls.UpdateWorker(key, "12D3KooW" + who.name, ("/ip4/127.0.0.1/tcp/1",), prefill, decode)


def list_roster(world: World) -> set[bytes]:
    size = inference.roster_size.read(world.chain.state)
    found = {inference.roster.read(world.chain.state, number) for number in range(size)}
    return {one for one in found if one is not None}


def test_more_than_two_thirds_of_the_stake_mark_a_worker() -> None:
    world, bob = make_four(), get_dev_identity("bob")
    for verifier in world.verifiers[:2]:
        receipt = world.chain.expect_ok(verifier, report(bob))
        assert read(world, bob).status == WorkerStatus.ACTIVE
    (told,) = pick(receipt.events, WorkerReported)
    assert 2 * told.reported == told.total
    receipt = world.chain.expect_ok(world.verifiers[2], report(bob))
    assert pick(receipt.events, WorkerAbsent) == [WorkerAbsent(bob.worker_key.public_key, bob.account)]
    absent = read(world, bob)
    assert (absent.status, absent.bond) == (WorkerStatus.ABSENT, BOND)
    assert bob.worker_key.public_key not in list_roster(world)
    assert queries.list_absence_reports(world.chain.state, bob.worker_key.public_key) == {}


def test_one_verifier_counts_once_however_often_it_reports() -> None:
    world, bob = make_four(), get_dev_identity("bob")
    for _ in range(5):
        world.chain.expect_ok(world.verifiers[0], report(bob))
    assert read(world, bob).status == WorkerStatus.ACTIVE
    assert len(queries.list_absence_reports(world.chain.state, bob.worker_key.public_key)) == 1


def test_reports_count_for_so_many_blocks_and_are_deleted_then() -> None:
    world, bob = make_four(), get_dev_identity("bob")
    window = world.chain.spec.params.inference.absence_blocks
    for verifier in world.verifiers[:2]:
        world.chain.expect_ok(verifier, report(bob))
    world.chain.skip(window)
    assert queries.list_absence_reports(world.chain.state, bob.worker_key.public_key) == {}
    world.chain.expect_ok(world.verifiers[2], report(bob))
    assert read(world, bob).status == WorkerStatus.ACTIVE


def test_a_later_report_renews_the_one_before() -> None:
    world, bob = make_four(), get_dev_identity("bob")
    window = world.chain.spec.params.inference.absence_blocks
    for verifier in world.verifiers[:2]:
        world.chain.expect_ok(verifier, report(bob))
    world.chain.skip(window - 10)
    for verifier in world.verifiers[:2]:
        world.chain.expect_ok(verifier, report(bob))
    world.chain.skip(window - 10)
    world.chain.expect_ok(world.verifiers[2], report(bob))
    assert read(world, bob).status == WorkerStatus.ABSENT


def test_only_elected_verifiers_of_the_model_report() -> None:
    world, bob = make_four(), get_dev_identity("bob")
    world.chain.expect_error(EVE, report(bob), errors.NotEligible)
    world.chain.expect_error(bob, report(bob), errors.NotEligible)
    world.chain.expect_error(world.verifiers[0], calls.ReportAbsent(bytes(32)), errors.UnknownWorker)


def test_an_operator_neither_reports_nor_shields_its_own_worker() -> None:
    world = make_four()
    alice = world.verifiers[0]
    world.chain.expect_ok(alice, world.register_worker(alice, 0, 2))
    world.chain.expect_error(alice, report(alice), errors.NotEligible)
    for verifier in world.verifiers[1:3]:
        receipt = world.chain.expect_ok(verifier, report(alice))
    (told,) = pick(receipt.events, WorkerReported)
    assert 3 * told.reported == 2 * told.total, "exactly two thirds are no quorum"
    assert read(world, alice).status == WorkerStatus.ACTIVE
    world.chain.expect_ok(world.verifiers[3], report(alice))
    assert read(world, alice).status == WorkerStatus.ABSENT


def test_an_absent_worker_is_not_reported_again_and_returns_by_announcing_itself() -> None:
    world, bob = World(), get_dev_identity("bob")
    world.chain.expect_ok(world.verifiers[0], report(bob))
    world.chain.expect_error(world.verifiers[0], report(bob), errors.WorkerNotActive)
    receipt = world.chain.expect_ok(bob, announce(bob))
    key = bob.worker_key.public_key
    assert pick(receipt.events, WorkerReturned) == [WorkerReturned(key, bob.account)]
    back = read(world, bob)
    assert (back.status, back.active_since) == (WorkerStatus.ACTIVE, world.chain.height)
    assert key in list_roster(world)


def test_a_lie_costs_the_rival_one_fee_and_each_liar_one() -> None:
    world, bob = World(), get_dev_identity("bob")
    before = world.chain.free(bob)
    lie = world.chain.expect_ok(world.verifiers[0], report(bob))
    assert world.chain.free(bob) == before, "nothing is slashed"
    answer = world.chain.expect_ok(bob, announce(bob))
    assert world.chain.free(bob) == before - answer.fee
    assert lie.fee > 0


def test_a_worker_that_comes_and_goes_pays_each_time() -> None:
    world, bob = World(), get_dev_identity("bob")
    before, fees = world.chain.free(bob), 0
    for _ in range(5):
        fees += world.chain.expect_ok(bob, leave(bob)).fee
        fees += world.chain.expect_ok(bob, announce(bob)).fee
    assert world.chain.free(bob) == before - fees
    assert fees >= 10 * world.chain.spec.params.system.fee_base


def test_spam_of_reports_is_bounded_state_that_goes_away() -> None:
    world, bob = make_four(), get_dev_identity("bob")
    before = world.chain.free(world.verifiers[0])
    fees = sum(world.chain.expect_ok(world.verifiers[0], report(bob)).fee for _ in range(20))
    assert world.chain.free(world.verifiers[0]) <= before - fees + 20 * fees, "rewards of blocks aside"
    assert fees >= 20 * world.chain.spec.params.system.fee_base
    assert len(list(inference.absence_reports.iterate(world.chain.state))) == 1
    world.chain.skip(world.chain.spec.params.inference.absence_blocks)
    assert list(inference.absence_reports.iterate(world.chain.state)) == []


def test_a_worker_leaves_by_itself_at_once() -> None:
    world, bob = World(), get_dev_identity("bob")
    world.chain.expect_error(EVE, leave(bob), errors.NotOperator)
    world.chain.expect_error(EVE, calls.LeaveWorker(bytes(32)), errors.UnknownWorker)
    receipt = world.chain.expect_ok(bob, leave(bob))
    assert pick(receipt.events, WorkerAbsent) == [WorkerAbsent(bob.worker_key.public_key, bob.account)]
    world.chain.expect_error(bob, leave(bob), errors.WorkerNotActive)


def test_an_absent_worker_can_retire_and_gets_its_bond() -> None:
    world, bob = World(), get_dev_identity("bob")
    world.chain.expect_ok(bob, leave(bob))
    world.chain.expect_ok(bob, calls.RetireWorker(bob.worker_key.public_key))
    world.chain.expect_error(bob, announce(bob), errors.WorkerNotActive)
    released = pick(world.chain.skip(world.chain.spec.params.inference.worker_unbonding_blocks), WorkerReleased)
    assert [one.bond for one in released] == [BOND]


def test_retiring_settles_what_was_reported() -> None:
    world, bob = make_four(), get_dev_identity("bob")
    world.chain.expect_ok(world.verifiers[0], report(bob))
    world.chain.expect_ok(bob, calls.RetireWorker(bob.worker_key.public_key))
    assert queries.list_absence_reports(world.chain.state, bob.worker_key.public_key) == {}
    world.chain.skip(world.chain.spec.params.inference.absence_blocks)


def test_what_an_absent_worker_served_settles_and_is_paid() -> None:
    world, bob = World(base_challenge_ppm=100, probation_value=0), get_dev_identity("bob")
    world.chain.expect_ok(world.verifiers[0], report(bob))
    world.chain.expect_ok(world.workers[1], world.settle())
    paid = pick(world.chain.skip(2), StagePaid)
    assert {one.operator for one in paid} == {one.account for one in world.workers}


def test_an_absent_worker_s_bond_answers_for_what_it_settled() -> None:
    world, bob = World(), get_dev_identity("bob")
    drawn = world.settle_and_draw(world.settle())
    world.chain.expect_ok(bob, leave(bob))
    (mine,) = [one for one in drawn if one.worker == bob.worker_key.public_key]
    world.judge(mine.challenge, world.verifiers[0], calls.Outcome.FAIL)
    assert read(world, bob).bond == BOND // 2


def test_an_absent_worker_that_is_ejected_stays_out() -> None:
    world, bob = World(fail_slash_permille=1_000), get_dev_identity("bob")
    drawn = world.settle_and_draw(world.settle())
    world.chain.expect_ok(bob, leave(bob))
    (mine,) = [one for one in drawn if one.worker == bob.worker_key.public_key]
    world.judge(mine.challenge, world.verifiers[0], calls.Outcome.FAIL)
    assert read(world, bob).status == WorkerStatus.EJECTED
    world.chain.expect_error(bob, announce(bob), errors.WorkerNotActive)


def test_a_price_is_announced() -> None:
    world, bob = World(), get_dev_identity("bob")
    key = bob.worker_key.public_key
    receipt = world.chain.expect_ok(bob, announce(bob, 7, 9))
    assert pick(receipt.events, WorkerUpdated) == [WorkerUpdated(key, bob.account, 7, 9)]
    assert (read(world, bob).prefill_price, read(world, bob).decode_price) == (7, 9)
    for prefill, decode in ((0, 1), (1, 0)):
        world.chain.expect_error(bob, announce(bob, prefill, decode), errors.ZeroPrice)


def raise_to(world: World, who: DevIdentity, factor: int) -> None:
    world.chain.expect_ok(who, announce(who, factor * PRICE // 2, factor * PRICE))


def test_an_order_at_the_old_price_settles_until_the_notice_is_over() -> None:
    world, bob = World(), get_dev_identity("bob")
    notice = world.chain.spec.params.inference.session_notice_blocks
    raise_to(world, bob, 2)
    world.chain.skip(notice - 2)
    world.chain.expect_ok(bob, world.settle(0))
    world.chain.expect_error(bob, world.settle(1), errors.PriceTooLow)


def test_the_lowest_price_of_the_notice_is_enough_however_often_it_is_raised() -> None:
    world, bob = World(), get_dev_identity("bob")
    for factor in (2, 3, 4):
        raise_to(world, bob, factor)
    world.chain.expect_ok(bob, world.settle())


def test_a_lowered_price_binds_nobody_who_ordered_before() -> None:
    world, bob = World(), get_dev_identity("bob")
    world.chain.expect_ok(bob, announce(bob, 1, 1))
    world.chain.expect_ok(bob, world.settle())


@pytest.mark.parametrize("is_prefill", [True, False])
def test_below_both_prices_nothing_settles(is_prefill: bool) -> None:
    world, bob = World(), get_dev_identity("bob")
    raise_to(world, bob, 2)
    first: PathStage = world.order().order.path[0]
    less = PRICE // 2 - 1 if is_prefill else PRICE - 1
    low = replace(first, prefill_price=less) if is_prefill else replace(first, decode_price=less)
    path = (low, *world.order().order.path[1:])
    world.chain.expect_error(bob, world.settle(path=path), errors.PriceTooLow)


def test_a_move_without_a_new_price_starts_no_notice() -> None:
    world, bob = World(), get_dev_identity("bob")
    world.chain.expect_ok(bob, announce(bob))
    assert read(world, bob).floor_until == 0
