"""Settlements of some stages, and what can be joined to them: money, exposure, time, and who is drawn for certain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.inference import errors, queries
from consensus.runtime.inference.events import ChallengeDrawn, RequestSettled, StagePaid
from consensus.runtime.inference.promise_events import SettlementJoined
from consensus.runtime.inference.state import Request, StageStatus
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types import calls
from proto_specs.types.promise_calls import JoinSettlement
from proto_specs.types.request import (
    SignedVoucher,
    Voucher,
    compute_billed_price,
    compute_request_id,
    compute_vouched_tokens,
    sign_stage_roots,
    sign_voucher,
)
from tests.unit.consensus.runtime.inference.inference_world import DEPOSIT, GROSS, SLICE, World, pick

JOIN_BLOCKS = 6


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World(join_blocks=JOIN_BLOCKS)


def vouch(world: World, tokens: int, *, final: bool = False) -> SignedVoucher:
    """The client's voucher over the first request."""
    request = compute_request_id(world.order().order)
    hashed = hash_tagged(Tag.TOKENS, bytes([tokens])) if tokens else bytes(32)
    return sign_voucher(Voucher(request, tokens, hashed, final), world.session_key)


def bring(
    world: World, stages: Sequence[int], positions: int, voucher: SignedVoucher | None, **fields: Any
) -> JoinSettlement:
    """What some stages bring over so many positions; `fields` replace those of the roots."""
    order = world.order()
    roots = [world.stage_roots(order.order, positions)[number] for number in stages]
    signed = [
        sign_stage_roots(replace(one.roots, **fields), world.workers[one.roots.stage].worker_key) for one in roots
    ]
    return JoinSettlement(order, voucher, tuple(signed))


def read(world: World) -> Request:
    found = queries.read_request(world.chain.state, compute_request_id(world.order().order))
    assert found is not None
    return found


def get_gross(world: World, tokens: int, positions: int) -> int:
    order = world.order().order
    return compute_billed_price(order, order.path[0], min(tokens, compute_vouched_tokens(order, positions)), positions)


def check_books(world: World) -> None:
    """Price, escrow and every worker's unresolved are the sums over the stages that brought something."""
    request = read(world)
    assert request.price == request.escrow == sum(stage.gross for stage in request.stages)
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert session.escrow == DEPOSIT - request.price
    for stage in request.stages:
        worker = queries.read_worker(world.chain.state, stage.worker)
        assert worker is not None
        assert worker.unresolved == stage.gross
        assert worker.open_stages == (stage.status == StageStatus.AWAITING_DRAW)


def test_one_stage_settles_alone_and_the_others_are_unpaid(world: World) -> None:
    receipt = world.chain.expect_ok(world.workers[1], bring(world, [1], 96, vouch(world, 57)))
    assert receipt.events[0].draw_height == world.chain.height + JOIN_BLOCKS + 1
    check_books(world)
    request = read(world)
    assert [stage.status for stage in request.stages] == [
        StageStatus.MISSING,
        StageStatus.AWAITING_DRAW,
        StageStatus.MISSING,
    ]
    assert (request.price, request.paid_positions) == (get_gross(world, 57, 96), 0)
    world.chain.skip(JOIN_BLOCKS - 1)
    world.chain.expect_error(world.workers[0], bring(world, [0], 96, None), errors.NothingToJoin)
    assert {one.stage for one in pick(world.chain.skip(1), ChallengeDrawn)} == {1}


def test_the_others_join_until_it_is_drawn_and_bill_what_they_would_have(world: World) -> None:
    voucher = vouch(world, 57)
    world.chain.expect_ok(world.workers[0], bring(world, [0], 96, voucher))
    world.chain.expect_ok(world.workers[2], bring(world, [2], 96, None))
    receipt = world.chain.expect_ok(world.workers[1], bring(world, [1], 96, voucher))
    (joined,) = pick(receipt.events, SettlementJoined)
    assert (joined.stages, joined.price) == (3, 3 * get_gross(world, 57, 96))
    check_books(world)
    whole = world.settle(tokens=57, final=False)
    assert joined.root != bytes(32)
    assert read(world).paid_positions == 96
    world.chain.expect_error(world.workers[0], whole, errors.NothingToJoin)


def test_a_better_voucher_opens_the_time_anew_and_takes_nothing_from_who_brought_less(world: World) -> None:
    world.chain.expect_ok(world.workers[0], bring(world, [0], 64, vouch(world, 25)))
    world.chain.skip(JOIN_BLOCKS - 2)
    receipt = world.chain.expect_ok(world.workers[2], bring(world, [2], 96, vouch(world, 57)))
    assert pick(receipt.events, SettlementJoined)[0].draw_height == world.chain.height + JOIN_BLOCKS + 1
    check_books(world)
    assert [stage.positions for stage in read(world).stages] == [64, 0, 96]
    assert read(world).stages[0].gross == get_gross(world, 25, 64)
    world.chain.expect_ok(world.workers[0], bring(world, [0], 96, None))
    assert read(world).stages[0].gross == get_gross(world, 57, 96)
    world.chain.expect_error(world.workers[0], bring(world, [0], 64, vouch(world, 25)), errors.NothingToJoin)
    check_books(world)


def test_a_stage_that_computed_less_than_was_vouched_for_bills_what_it_signed(world: World) -> None:
    """Else a client and a friend could vouch beyond what the others computed, and so shut them out."""
    world.chain.expect_ok(world.workers[2], bring(world, [2], 139, vouch(world, 100, final=True)))
    world.chain.expect_ok(world.workers[0], bring(world, [0], 64, vouch(world, 25)))
    assert read(world).stages[0].gross == get_gross(world, 25, 64)
    assert read(world).tokens == 100
    check_books(world)


def test_a_complete_settlement_is_drawn_at_once(world: World) -> None:
    world.chain.expect_ok(world.workers[0], bring(world, [0], 64, vouch(world, 25)))
    receipt = world.chain.expect_ok(world.workers[2], world.settle())
    assert pick(receipt.events, SettlementJoined)[0].draw_height == world.chain.height + 2
    assert read(world).price == 3 * GROSS
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert session.released == SLICE - 3 * GROSS
    world.chain.expect_error(world.workers[2], world.settle(), errors.SequenceUsed)
    assert len(pick(world.chain.skip(2), ChallengeDrawn)) == 3


def test_neighbours_that_contradict_each_other_are_both_drawn(world: World) -> None:
    world = World(join_blocks=JOIN_BLOCKS, probation_value=0, base_challenge_ppm=100)
    voucher = vouch(world, 57)
    world.chain.expect_ok(world.workers[0], bring(world, [0], 96, voucher))
    world.chain.expect_ok(world.workers[1], bring(world, [1], 96, voucher, input_root=b"x" * 32))
    assert [stage.challenge_ppm for stage in read(world).stages[:2]] == [1_000_000, 1_000_000]
    world.chain.expect_ok(world.workers[2], bring(world, [2], 96, voucher))
    assert read(world).stages[2].challenge_ppm < 1_000_000
    events = world.chain.skip(JOIN_BLOCKS + 1)
    assert {one.stage for one in pick(events, ChallengeDrawn)} >= {0, 1}
    assert {one.stage for one in pick(events, StagePaid)} <= {2}


def test_windows_are_drawn_of_what_a_stage_signed(world: World) -> None:
    seen = set()
    for sequence in range(20):
        order = world.order(sequence)
        request = compute_request_id(order.order)
        voucher = sign_voucher(Voucher(request, 57, b"t" * 32, False), world.session_key)
        roots = (world.stage_roots(order.order, 64)[0], world.stage_roots(order.order, 96)[2])
        world.chain.expect_ok(world.workers[0], JoinSettlement(order, voucher, roots))
        seen |= {(one.stage, one.window) for one in pick(world.chain.skip(JOIN_BLOCKS + 1), ChallengeDrawn)}
    assert seen == {(0, 0), (0, 1), (2, 0), (2, 1), (2, 2)}


def test_what_is_refused(world: World) -> None:
    voucher = vouch(world, 57)
    stranger = world.client
    cases: list[tuple[Any, JoinSettlement, type[Exception]]] = [
        (stranger, bring(world, [0], 96, voucher), errors.NotParty),
        (world.workers[0], bring(world, [0], 96, None), errors.BadVoucher),
        (world.workers[0], bring(world, [], 96, voucher), errors.BadStageRoots),
        (world.workers[0], bring(world, [1, 0], 96, voucher), errors.BadStageRoots),
        (world.workers[0], bring(world, [0, 0], 96, voucher), errors.BadStageRoots),
        (world.workers[0], bring(world, [0], 96, voucher, windows=2), errors.BadStageRoots),
        (world.workers[0], bring(world, [0], 96, voucher, request=bytes(32)), errors.BadStageRoots),
        (world.workers[0], bring(world, [0], 0, voucher), errors.BadStageRoots),
        (world.workers[0], bring(world, [0], 140, vouch(world, 3)), errors.BadStageRoots),
    ]
    for who, call, error in cases:
        world.chain.expect_error(who, call, error)  # type: ignore[arg-type]
    forged = bring(world, [0], 96, voucher)
    alien = sign_stage_roots(forged.stage_roots[0].roots, world.workers[1].worker_key)
    world.chain.expect_error(world.workers[0], replace(forged, stage_roots=(alien,)), errors.BadStageRoots)
    world.chain.expect_ok(world.workers[0], forged)
    world.chain.expect_error(stranger, bring(world, [1], 96, voucher), errors.NotParty)
    foreign = sign_voucher(voucher.voucher, world.client.account_key)
    world.chain.expect_error(world.workers[1], bring(world, [1], 96, foreign), errors.BadVoucher)
    world.chain.expect_error(world.workers[0], forged, errors.NothingToJoin)


def test_nothing_is_joined_once_the_session_has_closed(world: World) -> None:
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    world.chain.skip(6)
    world.chain.expect_ok(world.workers[0], bring(world, [0], 64, vouch(world, 25)))
    world.chain.skip(3)
    world.chain.expect_error(world.workers[1], bring(world, [1], 64, None), errors.EscrowReturned)
    world.chain.skip(JOIN_BLOCKS)
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert session.escrow == 0


def test_a_worker_that_retired_since_joins_what_it_served(world: World) -> None:
    """As with a whole settlement: its bond answers as ever."""
    world.chain.expect_ok(world.workers[1], calls.RetireWorker(world.workers[1].worker_key.public_key))
    world.chain.expect_ok(world.workers[0], bring(world, [0], 64, vouch(world, 25)))
    world.chain.expect_ok(world.workers[1], bring(world, [1], 64, None))
    check_books(world)


def test_settled_prices_are_final_after_the_draw(world: World) -> None:
    receipt = world.chain.expect_ok(world.workers[0], world.settle(tokens=57, final=False))
    assert pick(receipt.events, RequestSettled)[0].draw_height == world.chain.height + JOIN_BLOCKS + 1
    world.chain.skip(JOIN_BLOCKS)
    world.chain.expect_error(world.workers[0], bring(world, [0], 128, vouch(world, 89)), errors.NothingToJoin)
