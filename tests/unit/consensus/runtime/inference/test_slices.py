"""Sessions that last: top-ups, slices of the deposit, and what settled requests left of theirs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.arithmetic import BALANCE_MAX
from consensus.runtime.balances.errors import InsufficientBalance, ZeroAmount
from consensus.runtime.inference import errors, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import SessionClosed, SessionToppedUp
from consensus.runtime.inference.state import Session, SessionStatus
from consensus.state.overlay import Overlay
from proto_specs.types import calls
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.sampling import Grammar, GrammarKind, SamplingParams, TokenBias, make_grammar
from tests.unit.consensus.runtime.inference.inference_world import DEPOSIT, REQUEST_PRICE, SLICE, World, pick

RULES = SamplingParams(0, 0, 1000, 7)


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World()


def read(world: World) -> Session:
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    return session


def write(world: World, **fields: Any) -> None:
    """The session with other fields, as no call could make it in a test's time."""
    state = Overlay(world.chain.state)
    inference.sessions.write(state, world.session, replace(read(world), **fields))
    world.chain.state.apply(state.changes())


def test_a_top_up_is_escrowed_and_can_be_promised(world: World) -> None:
    before = world.chain.free(world.client)
    receipt = world.chain.expect_ok(world.client, calls.TopUpSession(world.session, 5))
    assert pick(receipt.events, SessionToppedUp) == [
        SessionToppedUp(world.session, world.client.account, 5, DEPOSIT + 5)
    ]
    session = read(world)
    assert (session.deposit, session.escrow, session.released, session.promisable) == (
        DEPOSIT + 5,
        DEPOSIT + 5,
        0,
        DEPOSIT + 5,
    )
    assert world.chain.free(world.client) == before - 5 - receipt.fee
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    (closed,) = pick(world.chain.skip(world.chain.spec.params.inference.session_notice_blocks), SessionClosed)
    assert closed.refund == DEPOSIT + 5


def test_only_the_client_tops_up_an_open_session(world: World) -> None:
    expect, call = world.chain.expect_error, calls.TopUpSession(world.session, 1)
    expect(world.client, replace(call, session=bytes(32)), errors.UnknownSession)
    expect(world.workers[0], call, errors.NotClient)
    expect(world.client, replace(call, amount=0), ZeroAmount)
    expect(world.client, replace(call, amount=10**9 * NMYL_PER_MYL), InsufficientBalance)
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    expect(world.client, call, errors.SessionNotOpen)
    world.chain.skip(world.chain.spec.params.inference.session_notice_blocks)
    assert read(world).status == SessionStatus.CLOSED
    expect(world.client, call, errors.SessionNotOpen)


def test_a_deposit_stays_a_64_bit_number(world: World) -> None:
    """Money that was refunded can be escrowed again and again, so the sum of deposits has no bound of its own."""
    write(world, deposit=BALANCE_MAX - 4)
    world.chain.expect_error(world.client, calls.TopUpSession(world.session, 5), errors.DepositTooHigh)
    world.chain.expect_ok(world.client, calls.TopUpSession(world.session, 4))


def test_what_a_request_left_of_its_slice_comes_back_as_new_positions(world: World) -> None:
    world.session = world.open_session(deposit=2 * SLICE)
    third = world.settle(sequence=2, slice_end=2 * SLICE + SLICE - REQUEST_PRICE)
    world.chain.expect_error(world.workers[0], third, errors.BadSlice)
    world.chain.expect_ok(world.workers[0], world.settle())
    session = read(world)
    assert (session.deposit, session.released) == (2 * SLICE, SLICE - REQUEST_PRICE)
    assert (session.promisable, session.escrow) == (3 * SLICE - REQUEST_PRICE, 2 * SLICE - REQUEST_PRICE)
    beyond = world.settle(sequence=2, slice_end=third.order.order.slice_end + 1)
    world.chain.expect_error(world.workers[0], beyond, errors.BadSlice)
    world.chain.expect_ok(world.workers[0], third)


def test_an_order_beyond_the_deposit_settles_after_a_top_up(world: World) -> None:
    world.session = world.open_session(deposit=SLICE)
    world.chain.expect_error(world.workers[0], world.settle(sequence=1), errors.BadSlice)
    world.chain.expect_ok(world.client, calls.TopUpSession(world.session, SLICE))
    world.chain.expect_ok(world.workers[0], world.settle(sequence=1))


def test_the_slice_bounds_the_price(world: World) -> None:
    small = world.settle(slice_start=7, slice_end=7 + REQUEST_PRICE - 1)
    world.chain.expect_error(world.workers[0], small, errors.BadSlice)
    world.chain.expect_ok(world.workers[0], world.settle(slice_start=7, slice_end=7 + REQUEST_PRICE))
    assert read(world).released == 0


def test_positions_end_at_64_bits(world: World) -> None:
    """A client that promises all positions again and again doubles them; the number must not outgrow its field."""
    whole = {"slice_start": 0, "slice_end": BALANCE_MAX}
    write(world, released=BALANCE_MAX - 2)
    world.chain.expect_ok(world.workers[0], world.settle(**whole))
    assert read(world).released == BALANCE_MAX
    world.chain.expect_ok(world.workers[0], world.settle(sequence=1, **whole))
    assert (read(world).released, read(world).escrow) == (BALANCE_MAX, DEPOSIT - 2 * REQUEST_PRICE)


UNJUDGED: dict[str, dict[str, Any]] = {
    "another class": {"service_class": 1},
    "no prompt": {"prompt_tokens": 0},
    "no tokens": {"tokens_max": 0},
    "positions beyond the context": {"tokens_max": 4096 - 40 + 2},
    "an empty slice": {"slice_start": 5, "slice_end": 5},
    "a slice that ends before it starts": {"slice_start": 6, "slice_end": 5},
    "top_p 0": {"sampling": replace(RULES, top_p_milli=0)},
    "a bias of no token": {"sampling": replace(RULES, logit_bias=(TokenBias(1000, 1),))},
    "an unknown grammar engine": {"sampling": replace(RULES, grammar=Grammar("mine", "1", 1, bytes(32)))},
    "another version": {"sampling": replace(RULES, grammar=Grammar("llguidance", "0", 1, bytes(32)))},
}


@pytest.mark.parametrize("name", UNJUDGED)
def test_an_order_that_nobody_could_judge_is_refused(world: World, name: str) -> None:
    """Each case is refused by the one function that clients, workers and verifiers ask too."""
    order = world.order(**UNJUDGED[name])
    world.chain.expect_error(world.workers[0], replace(world.settle(), order=order), errors.BadOrder)


def test_every_rule_may_be_used(world: World) -> None:
    rules = SamplingParams(
        700, 40, 950, 9, 50, 1100, -500, 500, (TokenBias(3, -100_000), TokenBias(999, 5)), (b"stop",),
        make_grammar(GrammarKind.LARK, b"start: /a/"), 3, True,
    )  # fmt: skip
    world.chain.expect_ok(world.workers[0], world.settle(tokens_max=4096 - 40 + 1, sampling=rules))
