"""Settling a request: what is accepted, every reason to refuse, and what a cheat would try."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.manifests import build_manifest
from consensus.runtime.inference import errors, queries
from consensus.runtime.inference.events import StageRefunded
from consensus.runtime.inference.state import SessionStatus, StageStatus, WorkerStatus
from genesis.dev import get_dev_identity
from proto_specs.codec import encode
from proto_specs.types import calls
from proto_specs.types.manifest import compute_model_id
from proto_specs.types.request import (
    compute_commitment_root,
    compute_request_id,
    compute_stage_price,
    sign_order,
    sign_stage_roots,
    sign_voucher,
)
from tests.unit.consensus.runtime.inference.inference_world import BOND, DEPOSIT, PRICE, REQUEST_PRICE, SLICE, World

CONTEXT_MAX = build_manifest(6).architecture.context_max


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World()


def with_roots(call: calls.Settle, world: World, number: int, /, **fields: Any) -> calls.Settle:
    """The settlement with one stage's roots changed and signed again by that stage."""
    changed = sign_stage_roots(replace(call.stage_roots[number].roots, **fields), world.workers[number].worker_key)
    stages = list(call.stage_roots)
    stages[number] = changed
    return replace(call, stage_roots=tuple(stages))


def with_voucher(call: calls.Settle, world: World, **fields: Any) -> calls.Settle:
    """The settlement with a changed voucher, signed again by the session key."""
    return replace(call, voucher=sign_voucher(replace(call.voucher.voucher, **fields), world.session_key))


def test_settle_moves_the_price_and_commits_the_root(world: World) -> None:
    call = world.settle()
    order = call.order.order
    receipt = world.chain.expect_ok(world.workers[0], call)
    price = sum(compute_stage_price(stage, 40, 60) for stage in order.path)
    assert price == 3 * 2 * (40 * 500 + 60 * 1000)
    request_id = compute_request_id(order)
    event = receipt.events[0]
    assert (event.request, event.price, event.windows, event.draw_height) == (
        request_id,
        price,
        4,
        world.chain.height + 2,
    )
    assert event.root == compute_commitment_root([one.roots for one in call.stage_roots])
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert (session.escrow, session.requests_open, session.requests_settled) == (DEPOSIT - price, 1, 1)
    request = queries.read_request(world.chain.state, request_id)
    assert request is not None
    assert request.escrow == price
    assert {stage.status for stage in request.stages} == {StageStatus.AWAITING_DRAW}
    assert queries.list_requests(world.chain.state, world.session) == [(0, request_id)]
    worker = queries.read_worker(world.chain.state, order.path[0].worker)
    assert worker is not None
    assert worker.unresolved == price // 3


def test_an_aborted_request_bills_what_was_vouched_for(world: World) -> None:
    call = world.settle(tokens=60, final=False)
    computed = replace(call, stage_roots=world.stage_roots(call.order.order, 120))
    receipt = world.chain.expect_ok(world.workers[2], computed)
    assert receipt.events[0].tokens == 60
    assert receipt.events[0].windows == 4


def test_an_abort_before_the_first_token_bills_the_prompt(world: World) -> None:
    receipt = world.chain.expect_ok(world.workers[0], world.settle(tokens=0, final=False))
    assert receipt.events[0].price == 6 * 40 * 500


def test_double_settle_is_refused(world: World) -> None:
    world.chain.expect_ok(world.workers[0], world.settle())
    world.chain.expect_error(world.workers[1], world.settle(), errors.SequenceUsed)
    world.chain.expect_error(world.workers[1], world.settle(tokens=61), errors.SequenceUsed)
    world.chain.expect_ok(world.workers[1], world.settle(sequence=1))


def test_an_order_for_another_chain_is_refused(world: World) -> None:
    world.chain.expect_error(world.workers[0], world.settle(genesis=bytes(32)), errors.WrongChain)


def test_order_must_be_of_a_known_session_and_its_model(world: World) -> None:
    worker = world.workers[0]
    world.chain.expect_error(worker, world.settle(session=bytes(32)), errors.UnknownSession)
    world.chain.expect_error(worker, world.settle(model=bytes(32)), errors.WrongModel)


def test_only_the_session_key_orders(world: World) -> None:
    signed = world.order()
    forged = sign_order(signed.order, world.client.account_key)
    world.chain.expect_error(world.workers[0], world.settle_order(forged), errors.BadOrderSignature)


def test_the_path_must_cover_the_model_by_its_workers(world: World) -> None:
    path = world.order().order.path
    worker = world.workers[0]
    gaps = [(), path[:2], path[1:], (path[1], path[0], path[2]), (path[0], path[0], path[2])]
    for bad in gaps:
        world.chain.expect_error(worker, replace(world.settle(), order=world.order(path=bad)), errors.BadOrder)
    eve = get_dev_identity("eve").worker_key.public_key
    strangers = [(replace(path[0], end=4), path[2]), (replace(path[0], worker=eve), *path[1:])]
    for bad in strangers:
        world.chain.expect_error(worker, replace(world.settle(), order=world.order(path=bad)), errors.BadPath)


def test_a_worker_of_another_model_is_no_stage(world: World) -> None:
    other = build_manifest(6, name="other")
    world.chain.expect_ok(world.client, calls.RegisterModel(encode(other)))
    eve = get_dev_identity("eve")
    world.chain.expect_ok(eve, replace(world.register_worker(eve, 0, 2), model=compute_model_id(other)))
    path = world.order().order.path
    bad = (replace(path[0], worker=eve.worker_key.public_key), *path[1:])
    world.chain.expect_error(world.workers[1], replace(world.settle(), order=world.order(path=bad)), errors.BadPath)


def test_prices_are_between_ask_and_limit(world: World) -> None:
    path = world.order().order.path
    dear = (replace(path[0], decode_price=PRICE + 1), *path[1:])
    cheap = (replace(path[0], prefill_price=PRICE // 2 - 1), *path[1:])
    world.chain.expect_error(world.workers[0], world.settle(path=dear), errors.PriceTooHigh)
    world.chain.expect_error(world.workers[0], world.settle(path=cheap), errors.PriceTooLow)


def test_only_a_stage_operator_settles(world: World) -> None:
    world.chain.expect_error(world.client, world.settle(), errors.NotParty)
    world.chain.expect_error(get_dev_identity("eve"), world.settle(), errors.NotParty)


def test_tampered_vouchers_are_refused(world: World) -> None:
    call, worker = world.settle(), world.workers[0]
    voucher = call.voucher
    raised = replace(voucher, voucher=replace(voucher.voucher, tokens=99))
    other_key = sign_voucher(voucher.voucher, world.workers[0].account_key)
    world.chain.expect_error(worker, replace(call, voucher=raised), errors.BadVoucher)
    world.chain.expect_error(worker, replace(call, voucher=other_key), errors.BadVoucher)
    world.chain.expect_error(worker, with_voucher(call, world, request=bytes(32)), errors.BadVoucher)
    world.chain.expect_error(worker, with_voucher(call, world, tokens=101), errors.BadVoucher)
    world.chain.expect_error(worker, with_voucher(call, world, tokens=0), errors.BadVoucher)


def test_a_voucher_of_another_request_is_refused(world: World) -> None:
    call, other = world.settle(sequence=0, tokens=1), world.settle(sequence=1, tokens=60)
    world.chain.expect_error(world.workers[0], replace(call, voucher=other.voucher), errors.BadVoucher)


def test_bogus_roots_are_refused(world: World) -> None:
    call, worker = world.settle(), world.workers[0]
    expect = world.chain.expect_error
    expect(worker, replace(call, stage_roots=call.stage_roots[:2]), errors.BadStageRoots)
    expect(worker, replace(call, stage_roots=(*call.stage_roots, call.stage_roots[0])), errors.BadStageRoots)
    expect(worker, with_roots(call, world, 1, request=bytes(32)), errors.BadStageRoots)
    expect(worker, with_roots(call, world, 1, stage=0), errors.BadStageRoots)
    expect(worker, with_roots(call, world, 1, windows=1), errors.BadStageRoots)
    expect(worker, with_roots(call, world, 1, positions=98), errors.BadStageRoots)
    expect(worker, with_roots(call, world, 1, input_root=bytes(32)), errors.BadStageRoots)
    expect(worker, with_roots(call, world, 1, output_root=bytes(32)), errors.BadStageRoots)
    forged = sign_stage_roots(call.stage_roots[1].roots, world.workers[0].worker_key)
    stages = (call.stage_roots[0], forged, call.stage_roots[2])
    expect(worker, replace(call, stage_roots=stages), errors.BadStageRoots)


def test_positions_must_carry_the_bill(world: World) -> None:
    order = world.order().order
    for positions, final in ((98, True), (100, True), (98, False), (140, False)):
        call = replace(world.settle(final=final), stage_roots=world.stage_roots(order, positions))
        world.chain.expect_error(world.workers[0], call, errors.BadStageRoots)
    for sequence, positions, final in ((0, 99, True), (1, 99, False), (2, 139, False)):
        signed = world.order(sequence)
        call = replace(world.settle_order(signed, final=final), stage_roots=world.stage_roots(signed.order, positions))
        world.chain.expect_ok(world.workers[0], call)


def test_an_old_voucher_does_not_settle_what_was_vouched_for_since(world: World) -> None:
    signed = world.order(tokens_max=400, slice_end=3 * SLICE)
    roots = world.stage_roots(signed.order, 40 + 300 - 1)
    for tokens in (0, 1, 202):
        stale = replace(world.settle_order(signed, tokens, final=False), stage_roots=roots)
        world.chain.expect_error(world.workers[0], stale, errors.BadStageRoots)
    world.chain.expect_ok(world.workers[0], replace(world.settle_order(signed, 203, final=False), stage_roots=roots))


def test_the_escrow_is_the_limit(world: World) -> None:
    """Only a client that promises the same positions again and again gets there."""
    world.session = world.open_session(deposit=SLICE)
    same = {"slice_start": 0, "slice_end": SLICE}
    world.chain.expect_ok(world.workers[0], world.settle(**same))
    world.chain.expect_ok(world.workers[0], world.settle(sequence=1, **same))
    assert 2 * REQUEST_PRICE < SLICE < 3 * REQUEST_PRICE
    world.chain.expect_error(world.workers[0], world.settle(sequence=2, **same), errors.EscrowTooLow)


def test_requests_max_is_the_limit() -> None:
    world = World(requests_max=1)
    world.chain.expect_ok(world.workers[0], world.settle())
    world.chain.expect_error(world.workers[0], world.settle(sequence=1), errors.TooManyRequests)


def test_exposure_is_bounded_by_the_bond() -> None:
    world = World(worker_bond_min=1, exposure_factor=3, detection_permille=900)
    rich = world.workers[0]
    world.chain.expect_ok(rich, calls.RetireWorker(rich.worker_key.public_key))
    poor = get_dev_identity("eve")
    gross = 2 * (500 * 40 + 1000 * 60)
    bond = -(-3 * gross * 1000 // 900)
    world.chain.expect_ok(poor, world.register_worker(poor, 0, 2, bond=bond))
    world.workers[0] = poor
    world.chain.expect_ok(poor, world.settle())
    world.chain.expect_error(poor, world.settle(sequence=1), errors.ExposureExceeded)
    world.chain.expect_error(poor, world.settle(sequence=1, prompt_tokens=1, tokens=1), errors.ExposureExceeded)


def test_exposure_of_a_later_stage_undoes_the_earlier_ones() -> None:
    world = World(worker_bond_min=1)
    eve = get_dev_identity("eve")
    world.chain.expect_ok(eve, world.register_worker(eve, 4, 6, bond=1))
    world.workers[2] = eve
    world.chain.expect_error(world.workers[0], world.settle(), errors.ExposureExceeded)
    worker = queries.read_worker(world.chain.state, world.workers[0].worker_key.public_key)
    assert worker is not None
    assert worker.unresolved == 0


def test_more_positions_than_the_model_has_are_refused(world: World) -> None:
    one = {"tokens": 1, "tokens_max": 1, "slice_end": 20 * SLICE}
    world.chain.expect_error(world.workers[0], world.settle(prompt_tokens=CONTEXT_MAX + 1, **one), errors.BadOrder)
    world.chain.expect_ok(world.workers[0], world.settle(prompt_tokens=CONTEXT_MAX, **one))


def test_exposure_raises_the_probability() -> None:
    world = World(base_challenge_ppm=10_000, probation_value=0, worker_bond_min=1)
    eve = get_dev_identity("eve")
    gross = 2 * (500 * 40 + 1000 * 60)
    bond = 10 * 3 * gross * 1000 // 900
    world.chain.expect_ok(eve, world.register_worker(eve, 0, 2, bond=bond))
    world.workers[0] = eve
    world.chain.expect_ok(eve, world.settle())
    world.chain.expect_ok(eve, world.settle(sequence=1))
    for sequence, ppm in ((0, 100_000), (1, 200_000)):
        request = queries.read_request(world.chain.state, compute_request_id(world.order(sequence).order))
        assert request is not None
        assert ppm <= request.stages[0].challenge_ppm <= ppm + 2
        assert request.stages[1].challenge_ppm == 10_000


def test_new_workers_are_always_challenged() -> None:
    world = World(base_challenge_ppm=10_000, probation_value=480_000)
    world.chain.expect_ok(world.workers[0], world.settle())
    request = queries.read_request(world.chain.state, compute_request_id(world.order().order))
    assert request is not None
    assert [stage.challenge_ppm for stage in request.stages] == [1_000_000] * 3


def test_a_retiring_worker_is_still_paid_for_what_it_served(world: World) -> None:
    world.chain.expect_ok(world.workers[1], calls.RetireWorker(world.workers[1].worker_key.public_key))
    world.chain.expect_ok(world.workers[1], world.settle())
    world.chain.skip(110)
    worker = queries.read_worker(world.chain.state, world.workers[1].worker_key.public_key)
    assert worker is not None
    assert (worker.status, worker.bond) == (WorkerStatus.RELEASED, 0)
    receipt = world.chain.expect_ok(world.workers[0], world.settle(sequence=1))
    assert [one.stage for one in receipt.events if isinstance(one, StageRefunded)] == [1]


def test_closing_does_not_escape_the_bill(world: World) -> None:
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    world.chain.skip(world.chain.spec.params.inference.session_notice_blocks - 2)
    world.chain.expect_ok(world.workers[0], world.settle())
    world.chain.expect_error(world.workers[0], world.settle(sequence=1), errors.EscrowReturned)
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert (session.status, session.requests_open) == (SessionStatus.CLOSED, 1)
    request = queries.read_request(world.chain.state, compute_request_id(world.order().order))
    assert request is not None
    assert request.escrow == request.price > 0
    assert request.price < BOND
