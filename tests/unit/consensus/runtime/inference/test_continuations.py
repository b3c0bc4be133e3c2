"""An answer over several orders: each position is billed once, whichever settlement comes first, and drawn once."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.runtime.inference import draws, errors, queries
from consensus.runtime.inference.events import ChallengeDrawn, RequestSettled
from proto_specs.types import calls
from proto_specs.types.request import (
    Continuation,
    SignedOrder,
    Voucher,
    compute_price_max,
    compute_request_id,
    compute_vouched_tokens,
    sign_voucher,
)
from tests.unit.consensus.runtime.chain import compute_beacon
from tests.unit.consensus.runtime.inference.inference_world import DEPOSIT, PRICE, REQUEST_PRICE, World, pick

LAYERS = 6
PROMPT = 40
SETTLED = 64
CAME = 45
"""Tokens of the answer that came under the first order."""


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World()


def settle_prefix(world: World, signed: SignedOrder, positions: int, tokens: int | None = None) -> calls.Settle:
    """The settlement by prefix roots over so many positions."""
    tokens = compute_vouched_tokens(signed.order, positions) if tokens is None else tokens
    hashed = b"t" * 32 if tokens else bytes(32)
    voucher = Voucher(compute_request_id(signed.order), tokens, hashed, False)
    roots = world.stage_roots(signed.order, positions)
    return calls.Settle(signed, sign_voucher(voucher, world.session_key), roots)


def continue_order(world: World, before: SignedOrder, sequence: int = 1, **fields: Any) -> SignedOrder:
    """The order that goes on after `CAME` tokens, of which a prefix is settled."""
    stated = {"epoch": 1, "answer_start": PROMPT, "settled_positions": SETTLED, **fields}
    going_on = Continuation(compute_request_id(before.order), **stated)
    return world.order(sequence, prompt_tokens=PROMPT + CAME, tokens_max=100 - CAME, continuation=going_on)


def read_price(world: World, settled: calls.Settle) -> int:
    found = queries.read_request(world.chain.state, compute_request_id(settled.order.order))
    assert found is not None
    return found.price


@pytest.mark.parametrize("is_prefix_first", [True, False])
def test_each_position_is_billed_under_one_order(world: World, is_prefix_first: bool) -> None:
    first = world.order()
    prefix = settle_prefix(world, first, SETTLED)
    second = world.settle_order(continue_order(world, first), 100 - CAME)
    for call in (prefix, second) if is_prefix_first else (second, prefix):
        world.chain.expect_ok(world.workers[0], call)
    tokens = SETTLED - PROMPT + 1
    assert read_price(world, prefix) == LAYERS * (PROMPT * PRICE // 2 + tokens * PRICE)
    assert read_price(world, second) == LAYERS * ((PROMPT + CAME - SETTLED) * PRICE // 2 + (100 - CAME) * PRICE)
    assert read_price(world, second) == compute_price_max(second.order.order)
    for call, start, end in ((prefix, 0, 2), (second, 2, 5)):
        found = queries.read_request(world.chain.state, compute_request_id(call.order.order))
        assert found is not None
        assert (found.first_window, found.windows) == (start, end)
    found = queries.read_request(world.chain.state, compute_request_id(second.order.order))
    assert found is not None
    assert found.continues == compute_request_id(first.order)


def test_only_a_request_s_own_windows_are_drawn(world: World) -> None:
    seen = set()
    for sequence in range(0, 40, 2):
        first = world.order(sequence)
        second = world.settle_order(continue_order(world, first, sequence + 1), 100 - CAME)
        world.chain.expect_ok(world.workers[0], second)
        height, request = world.chain.height, compute_request_id(second.order.order)
        for one in pick(world.chain.skip(2), ChallengeDrawn):
            seen.add(one.window)
            beacon = compute_beacon(height + 2)
            assert one.window == draws.compute_draw(beacon, request, one.stage, 1_000_000, range(2, 5))
    assert seen == {2, 3, 4}


def test_a_prompt_that_was_not_read_to_its_end_is_billed_as_far_as_it_was(world: World) -> None:
    first = world.order(prompt_tokens=100)
    call = settle_prefix(world, first, 64)
    assert call.voucher.voucher.tokens == 0
    receipt = world.chain.expect_ok(world.workers[2], call)
    assert pick(receipt.events, RequestSettled)[0].price == LAYERS * 64 * PRICE // 2


@pytest.mark.parametrize(
    ("positions", "tokens"),
    [
        (63, 0),  # not whole windows
        (64, 1),  # a token is vouched for, and its prompt is not there
        (0, 0),
        (97 + 100, 0),  # further ahead than vouchers allow
    ],
)
def test_a_prefix_of_the_prompt_is_whole_windows_and_no_tokens(world: World, positions: int, tokens: int) -> None:
    call = settle_prefix(world, world.order(prompt_tokens=100, tokens_max=200), positions, tokens)
    world.chain.expect_error(world.workers[0], call, errors.BadStageRoots)


def test_an_order_settles_more_than_the_one_before_it(world: World) -> None:
    """What is paid already is no work of this order: without the rule it would settle for nothing, and be drawn."""
    second = continue_order(world, world.order())
    for positions in (32, 64):
        world.chain.expect_error(world.workers[0], settle_prefix(world, second, positions, 0), errors.BadStageRoots)
    longer = world.order(
        2,
        prompt_tokens=100,
        continuation=Continuation(compute_request_id(second.order), 2, PROMPT, SETTLED),
    )
    receipt = world.chain.expect_ok(world.workers[0], settle_prefix(world, longer, 96))
    assert pick(receipt.events, RequestSettled)[0].price == LAYERS * 32 * PRICE // 2


@pytest.mark.parametrize(
    "fields",
    [{"epoch": 0}, {"answer_start": 0}, {"answer_start": 86}, {"settled_positions": 33}, {"settled_positions": 96}],
)
def test_what_no_worker_takes_the_chain_does_not_settle(world: World, fields: dict[str, int]) -> None:
    second = continue_order(world, world.order(), **fields)
    world.chain.expect_error(world.workers[0], world.settle_order(second, 100 - CAME), errors.BadOrder)


def test_a_prefix_and_the_end_of_one_order_do_not_both_settle(world: World) -> None:
    """A stage that was cut off settles its prefix, and the path its end: the end takes the prefix's place."""
    first = world.order()
    prefix = settle_prefix(world, first, SETTLED)
    world.chain.expect_ok(world.workers[2], prefix)
    world.chain.expect_ok(world.workers[0], world.settle_order(first))
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert (session.requests_settled, session.escrow) == (1, DEPOSIT - REQUEST_PRICE)
    world.chain.expect_error(world.workers[2], prefix, errors.SequenceUsed)


def test_the_deposit_covers_every_order_of_an_answer(world: World) -> None:
    """Slices as large as each order may cost, one after another, and not a nmyl more: all settle, in any order."""
    first = world.order()
    second = continue_order(world, first)
    sizes = [compute_price_max(first.order), compute_price_max(second.order)]
    world.session = world.open_session(deposit=sum(sizes))
    first = world.order(0, slice_start=0, slice_end=sizes[0])
    going_on = Continuation(compute_request_id(first.order), 1, PROMPT, SETTLED)
    second = world.order(
        1,
        prompt_tokens=PROMPT + CAME,
        tokens_max=100 - CAME,
        continuation=going_on,
        slice_start=sizes[0],
        slice_end=sum(sizes),
    )
    world.chain.expect_ok(world.workers[1], world.settle_order(second, 100 - CAME))
    world.chain.expect_ok(world.workers[0], settle_prefix(world, first, SETTLED))
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert session.released == 0, "it may settle for more yet"
    world.chain.skip(6)
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert session.released == sizes[0] - LAYERS * (PROMPT * PRICE // 2 + 25 * PRICE)
    assert session.escrow == session.released, "what the first order left can be promised again"
