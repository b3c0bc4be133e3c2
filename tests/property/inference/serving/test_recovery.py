"""Stages are lost at any point: the answer is the same, and each of its positions is billed to one order and once."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.runtime.inference.settlement import check_stage_roots, check_voucher
from consensus.runtime.inference.state import Session
from inference.serving.opening import authenticate_opening
from inference.serving.record import make_opening
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.calls import Settle
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import Order, compute_positions, compute_request_id, compute_settled_price
from tests.property.inference.serving.harness import LAYERS, SESSION_KEY, make_manifest
from tests.property.inference.serving.recovery import KEYS, Loss, Told, answer

SESSION = Session(bytes(32), ZERO_HASH, SESSION_KEY.public_key, 0, 9, 9**9, 0, 9**9, 9, 0, 0, 0, 0, 0, False)

LOSSES = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([1, 1, 2]), st.integers(0, 900), st.integers(0, 60)), max_size=3
)


@settings(max_examples=100, deadline=None)
@given(
    prompt_tokens=st.integers(1, 100),
    tokens_max=st.integers(1, 120),
    stages=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 2**32),
    losses=LOSSES,
    is_noisy=st.booleans(),
)
def test_an_answer_survives_the_loss_of_its_stages(prompt_tokens, tokens_max, stages, seed, losses, is_noisy) -> None:
    losses = [(stage, min(lost, stages), *rest) for stage, lost, *rest in losses]
    check(prompt_tokens, tokens_max, stages, seed, losses, is_noisy)


@settings(max_examples=250, deadline=None)
@given(
    prompt_tokens=st.integers(1, 100),
    tokens_max=st.integers(1, 120),
    stages=st.sampled_from([2, 3]),
    seed=st.integers(0, 2**32),
    losses=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from([1, 1, 2]), st.integers(0, 500), st.integers(0, 60)), max_size=3
    ),
    is_noisy=st.booleans(),
    turns=st.lists(st.tuples(st.integers(0, 31), st.integers(0, 31)), min_size=1, max_size=5),
)
def test_an_answer_that_is_drafted_survives_the_loss_of_its_stages(
    prompt_tokens, tokens_max, stages, seed, losses, is_noisy, turns
) -> None:
    """In the middle of bursts, too."""
    losses = [(stage, min(lost, stages), *rest) for stage, lost, *rest in losses]
    check(prompt_tokens, tokens_max, stages, seed, losses, is_noisy, turns)


def check(
    prompt_tokens: int,
    tokens_max: int,
    stages: int,
    seed: int,
    losses: Sequence[Loss],
    is_noisy: bool,
    turns: Sequence[tuple[int, int]] = (),
) -> None:
    undisturbed = answer(prompt_tokens, tokens_max, stages, seed + 1, [], is_noisy=False)
    told = answer(prompt_tokens, tokens_max, stages, seed, losses, is_noisy, turns=turns, truth=undisturbed.tokens)
    assert told.tokens == undisturbed.tokens
    assert len(told.tokens) == tokens_max
    settles = sorted(told.book.values(), key=lambda one: one.order.order.epoch)
    for settle in settles:
        assert_chain_takes(settle)
    assert_billed_once(told, settles)
    assert_survivors_open(told)


def assert_chain_takes(settle: Settle) -> None:
    request = compute_request_id(settle.order.order)
    check_voucher(SESSION, settle.order.order, request, settle.voucher)
    check_stage_roots(settle.order.order, request, settle.voucher, settle.stage_roots)


def assert_billed_once(told: Told, settles: list[Settle]) -> None:
    """Settled orders follow each other without gap or overlap, to the last position that was vouched for."""
    at = price = 0
    for settle in settles:
        order, positions = settle.order.order, settle.stage_roots[0].roots.positions
        if order.settled_positions != at:
            assert order.settled_positions > at
            assert is_path_lost(told, order), "somebody was left to submit it"
            at = order.settled_positions
        assert positions > at
        tokens = settle.voucher.voucher.tokens
        price += LAYERS * (min(order.prompt_tokens, positions) - at + 2 * tokens)
        at = positions
    assert price == sum(
        compute_settled_price(one.order.order, one.voucher.voucher.tokens, one.stage_roots[0].roots.positions)
        for one in settles
    )
    last = told.attempts[-1]
    if last.outcome.is_settlement_announced:
        order = last.client.order.order
        assert at == compute_positions(order.prompt_tokens, len(last.client.tokens))
        assert compute_request_id(settles[-1].order.order) == last.client.request
        assert settles[-1].voucher.voucher.final


def is_path_lost(told: Told, order: Order) -> bool:
    """Whether no worker of the order that this one continues took a later one: nobody has what settles it."""
    assert order.continuation is not None
    attempts = [(one.client.order.order, one.opened) for one in told.attempts]
    (before,) = [one for one, _ in attempts if compute_request_id(one) == order.continuation.request]
    later = {one.path[stage].worker for one, opened in attempts for stage in opened if one.epoch > before.epoch}
    return later.isdisjoint(stage.worker for stage in before.path)


def assert_survivors_open(told: Told) -> None:
    """Whoever did not die proves each window that the beacon may draw, whatever it has signed for later.

    Whoever died before it had concluded the request has its windows on disk, which is not played here.
    """
    died = {one.workers[stage].number for one in told.attempts for stage in one.dead}
    for request, settle in told.book.items():
        order = settle.order.order
        dead = next(one.dead for one in told.attempts if one.client.request == request)
        for stage, signed in enumerate(settle.stage_roots):
            if stage in dead:
                continue
            (worker,) = [one for one in told.workers if KEYS[one.number].public_key == order.path[stage].worker]
            if worker.number in died and request not in worker.records:
                continue
            windows = signed.roots.windows
            for window in range(order.settled_positions // WINDOW_POSITIONS, windows):
                opening = make_opening(worker.records[request], window, windows)
                authenticate_opening(opening, signed.roots, window, SESSION_KEY.public_key, make_manifest())


def test_who_comes_before_the_lost_stage_computes_nothing_again() -> None:
    told = answer(70, 90, 3, 4, [(2, 1, 400, 60)], is_noisy=True)
    first, middle = told.workers[:2]
    assert len(told.attempts) == 2
    assert first.computed == middle.computed == 70 + 90 - 1
    assert len(told.book) == 2


def test_rows_of_another_worker_are_computed_anew_where_they_differ_and_kept_where_they_do_not() -> None:
    for is_noisy in (False, True):
        told = answer(70, 90, 3, 4, [(0, 1, 400, 60)], is_noisy)
        assert (told.workers[1].computed > 70 + 90 - 1) == is_noisy


def test_two_lost_paths_in_a_row_leave_the_first_settlement_to_stand() -> None:
    """The second order dies before it has a window of its own: the third one goes on from the first one's."""
    told = answer(70, 60, 3, 4, [(1, 1, 400, 60), (1, 1, 40, 0)], is_noisy=True)
    assert len(told.attempts) == 3
    first, second, third = (one.client.order.order for one in told.attempts)
    assert second.continuation is not None
    assert third.continuation is not None
    assert second.continuation.request == third.continuation.request == compute_request_id(first)
    assert (second.epoch, third.epoch) == (1, 2)
    assert second.settled_positions == third.settled_positions > 0
    assert [one.order.order.epoch for one in told.book.values()] == [0, 2]
