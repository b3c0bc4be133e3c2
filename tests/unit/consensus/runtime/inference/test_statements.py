"""Settling a statement: what it moves, every reason to refuse one, and its life to the last trace."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.inference import draws, errors, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import (
    ChallengeDrawn,
    RequestResolved,
    SessionClosed,
    StagePaid,
    StageRefunded,
    WorkerSlashed,
)
from consensus.runtime.inference.state import SEQUENCES_CHUNK, SessionStatus, StageStatus
from consensus.runtime.inference.statement_events import StatementSettled
from consensus.state.overlay import Overlay
from genesis.dev import get_dev_identity
from proto_specs.limits import SESSION_SEQUENCES_MAX
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.statement import Span, Statement, sign_statement_as_client
from tests.unit.consensus.runtime.chain import compute_beacon
from tests.unit.consensus.runtime.inference.inference_world import (
    DEPOSIT,
    GROSS,
    LAYERS,
    PRICE,
    REQUEST_PRICE,
    SLICE,
    World,
    pick,
)
from tests.unit.consensus.runtime.inference.statement_world import (
    get_id,
    make_leaves,
    sign_statement,
    state_leaves,
    state_requests,
)

COUNT = 5


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World()


def read_session(world: World) -> inference.Session:
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    return session


def settle(world: World, call: calls.SettleStatement) -> list[ChallengeDrawn]:
    """Settle by the client, go to the draw; the challenges."""
    world.chain.expect_ok(world.client, call)
    return pick(world.chain.skip(2), ChallengeDrawn)


def test_a_statement_costs_what_its_requests_cost_one_by_one(world: World) -> None:
    call = state_requests(world, range(COUNT))
    receipt = world.chain.expect_ok(get_dev_identity("eve"), call)
    (told,) = pick(receipt.events, StatementSettled)
    stated = call.statement.statement
    assert (told.request, told.requests, told.price) == (get_id(call), COUNT, COUNT * REQUEST_PRICE)
    assert (told.prompt_tokens, told.tokens, told.positions) == (COUNT * 40, COUNT * 60, COUNT * 99)
    assert (told.root, told.draw_height) == (stated.root, world.chain.height + 2)
    session = read_session(world)
    assert (session.escrow, session.requests_settled, session.requests_open) == (DEPOSIT - told.price, COUNT, 1)
    assert session.released == COUNT * (SLICE - REQUEST_PRICE)
    request = queries.read_request(world.chain.state, get_id(call))
    assert request is not None
    assert (request.requests, request.sequence, request.root) == (COUNT, 0, stated.root)
    assert [one.gross for one in request.stages] == [COUNT * GROSS] * 3
    assert queries.list_requests(world.chain.state, world.session) == [(0, get_id(call))]
    assert [queries.is_sequence_used(world.chain.state, world.session, one) for one in range(COUNT + 1)] == [
        *[True] * COUNT,
        False,
    ]


def test_a_point_is_drawn_by_what_it_costs(world: World) -> None:
    call = state_requests(world, range(COUNT))
    drawn = settle(world, call)
    assert [one.stage for one in drawn] == [0, 1, 2]
    request = queries.read_request(world.chain.state, get_id(call))
    assert request is not None
    for one in drawn:
        stage, beacon = request.stages[one.stage], compute_beacon(world.chain.height)
        assert (stage.gross, stage.prompt_gross) == (COUNT * GROSS, COUNT * 2 * 40 * PRICE // 2)
        point = draws.compute_point(beacon, get_id(call), one.stage, stage, request)
        assert point is not None
        assert (one.window, one.point) == (0, point)
        assert 0 <= point < COUNT * (40 + 60)
        challenge = queries.read_challenge(world.chain.state, one.challenge)
        assert challenge is not None
        assert (challenge.request, challenge.window, challenge.point) == (get_id(call), 0, point)


@pytest.mark.parametrize(("prompt_tokens", "tokens"), [(40, 60), (3, 1), (1, 0), (7, 500)])
@pytest.mark.parametrize(("prompt_price", "price"), [(1, 1), (2, 9), (9, 2), (1, 1_000)])
def test_every_nmyl_draws_what_it_pays_for(prompt_tokens: int, tokens: int, prompt_price: int, price: int) -> None:
    """Over all nmyl of a stage each prompt position and each token is drawn as often as it costs."""
    layers = 2
    prompt_gross, gross = (
        layers * prompt_tokens * prompt_price,
        layers * (prompt_tokens * prompt_price + tokens * price),
    )
    counted = Counter(draws.compute_paid(nmyl, gross, prompt_gross, prompt_tokens, tokens) for nmyl in range(gross))
    expected = dict.fromkeys(range(prompt_tokens), layers * prompt_price)
    assert counted == {**expected, **{prompt_tokens + one: layers * price for one in range(tokens)}}


def test_verdicts_move_the_money_of_all_requests(world: World) -> None:
    drawn = settle(world, state_requests(world, range(COUNT)))
    alice = world.verifiers[0]
    (paid,) = pick(world.judge(drawn[0].challenge, alice, Outcome.PASS).events, StagePaid)
    assert paid.amount == COUNT * GROSS * 85 // 100
    (refunded,) = pick(world.judge(drawn[1].challenge, alice, Outcome.UNAVAILABLE).events, StageRefunded)
    assert refunded.amount == COUNT * GROSS
    events = world.judge(drawn[2].challenge, alice, Outcome.FAIL).events
    (slashed,) = pick(events, WorkerSlashed)
    assert slashed.compensation == COUNT * GROSS, "the client has the whole price back"
    (resolved,) = pick(events, RequestResolved)
    assert (resolved.price, resolved.returned) == (COUNT * REQUEST_PRICE, COUNT * REQUEST_PRICE)
    assert read_session(world).requests_open == 0


def test_undrawn_stages_are_paid_at_the_draw() -> None:
    world = World(base_challenge_ppm=0, probation_value=0)
    world.chain.expect_ok(world.client, state_requests(world, range(COUNT)))
    assert len(pick(world.chain.skip(2), StagePaid)) == 3


def test_nothing_of_a_statement_is_left_in_the_end() -> None:
    world = World(requests_max=COUNT, base_challenge_ppm=0, probation_value=0, retention_blocks=6)
    call = state_requests(world, range(COUNT))
    world.chain.expect_ok(world.client, call)
    assert pick(world.chain.skip(2), SessionClosed), "it has served every request that it was opened for"
    world.chain.skip(5)
    assert queries.is_sequence_used(world.chain.state, world.session, 0)
    world.chain.skip(1)
    assert queries.read_request(world.chain.state, get_id(call)) is None
    assert queries.read_session(world.chain.state, world.session) is None
    assert not list(inference.sequences_used.iterate(world.chain.state))
    assert not list(inference.requests_by_session.iterate(world.chain.state))
    world.chain.expect_error(world.client, call, errors.UnknownSession)


CHANGES: dict[str, tuple[dict[str, Any], type[errors.InferenceCallError]]] = {
    "another chain": ({"genesis": bytes(32)}, errors.WrongChain),
    "no session": ({"session": bytes(32)}, errors.UnknownSession),
    "no request": ({"requests": 0}, errors.BadStatement),
    "more requests than numbers": ({"requests": COUNT + 1}, errors.BadStatement),
    "more requests than are allowed": ({"requests": 65_537}, errors.BadStatement),
    "no numbers": ({"sequences": ()}, errors.BadStatement),
    "no slices": ({"slices": ()}, errors.BadStatement),
    "an empty span": ({"sequences": (Span(0, COUNT), Span(9, 9))}, errors.BadStatement),
    "spans that touch": ({"sequences": (Span(0, 2), Span(2, COUNT))}, errors.BadStatement),
    "spans that overlap": ({"sequences": (Span(0, 3), Span(2, COUNT))}, errors.BadStatement),
    "spans that descend": ({"sequences": (Span(3, COUNT + 1), Span(0, 2))}, errors.BadStatement),
    "a span that descends": ({"slices": (Span(COUNT * SLICE, 0),)}, errors.BadStatement),
    "slices that overlap": ({"slices": (Span(0, 3 * SLICE), Span(SLICE, 5 * SLICE))}, errors.BadStatement),
    "a number beyond all": (
        {"sequences": (Span(0, COUNT - 1), Span(SESSION_SEQUENCES_MAX, SESSION_SEQUENCES_MAX + 1))},
        errors.BadStatement,
    ),
    "prompts of nothing": ({"prompt_tokens": COUNT - 1}, errors.BadStatement),
    "more prompt than positions": ({"prompt_tokens": COUNT * 99 + 1, "tokens": 0}, errors.BadStatement),
    "tokens that nobody computed": ({"tokens": COUNT * 60 + 1}, errors.BadStatement),
    "positions that nobody vouched for": ({"positions": COUNT * (100 + 96) + 1}, errors.BadStatement),
    "all tokens there are": ({"tokens": 2**64 - 1}, errors.BadStatement),
    "all positions there are": ({"positions": 2**64 - 1}, errors.BadStatement),
    "slices beyond the deposit": ({"slices": (Span(0, DEPOSIT + 1),)}, errors.BadSlice),
    "slices below the price": ({"slices": (Span(0, COUNT * REQUEST_PRICE - 1),)}, errors.BadSlice),
}


@pytest.mark.parametrize("why", CHANGES)
def test_a_statement_that_contradicts_itself_is_refused(world: World, why: str) -> None:
    """All have signed it: the chain believes no one what it can see by itself."""
    fields, error = CHANGES[why]
    stated = replace(state_leaves(world, make_leaves(world, range(COUNT))), **fields)
    world.chain.expect_error(world.client, sign_statement(world, stated), error)


def test_positions_are_within_the_model(world: World) -> None:
    """Of a model with a short context no sum can be made of longer requests."""
    state = Overlay(world.chain.state)
    (model,) = [one for _, one in queries.list_models(state)]
    inference.models.write(state, world.model, replace(model, context_max=98))
    world.chain.state.apply(state.changes())
    world.chain.expect_error(world.client, state_requests(world, range(COUNT)), errors.BadStatement)


def test_a_path_is_held_as_in_any_settlement(world: World) -> None:
    path = world.order().order.path
    stated = state_leaves(world, make_leaves(world, range(COUNT)))
    eve = get_dev_identity("eve").worker_key.public_key
    paths: list[tuple[Any, type[errors.InferenceCallError]]] = [
        ((), errors.BadPath),
        (path[:2], errors.BadPath),
        ((path[0], replace(path[0], start=2, end=4), path[2]), errors.BadPath),
        ((replace(path[0], worker=eve), *path[1:]), errors.BadPath),
        ((replace(path[0], end=1), replace(path[1], start=1), path[2]), errors.BadPath),
        ((replace(path[0], decode_price=PRICE + 1), *path[1:]), errors.PriceTooHigh),
        ((replace(path[0], prefill_price=PRICE // 2 - 1), *path[1:]), errors.PriceTooLow),
    ]
    for bad, error in paths:
        world.chain.expect_error(world.client, sign_statement(world, replace(stated, path=bad)), error)


def test_everybody_signs(world: World) -> None:
    call = state_requests(world, range(COUNT))
    signed = call.statement
    signatures = signed.worker_signatures
    stated: Statement = signed.statement
    foreign = sign_statement_as_client(stated, world.client.account_key)
    for bad in (
        replace(signed, client_signature=bytes(64)),
        replace(signed, client_signature=foreign),
        replace(signed, worker_signatures=()),
        replace(signed, worker_signatures=signatures[:2]),
        replace(signed, worker_signatures=(*signatures, signatures[0])),
        replace(signed, worker_signatures=(signatures[1], signatures[0], signatures[2])),
        replace(signed, worker_signatures=(signed.client_signature, *signatures[1:])),
        replace(signed, statement=replace(stated, root=bytes(32))),
    ):
        world.chain.expect_error(world.client, calls.SettleStatement(bad), errors.BadStatementSignature)


def test_a_session_settles_no_more_than_it_was_opened_for() -> None:
    world = World(requests_max=COUNT)
    world.chain.expect_error(world.client, state_requests(world, range(COUNT + 1)), errors.TooManyRequests)
    world.chain.expect_ok(world.client, state_requests(world, range(2, 2 + COUNT)))
    world.chain.expect_error(world.client, state_requests(world, [0]), errors.TooManyRequests)


def test_a_closed_session_settles_nothing(world: World) -> None:
    notice = world.chain.spec.params.inference.session_notice_blocks
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    world.chain.skip(notice - 2)
    world.chain.expect_ok(world.client, state_requests(world, range(COUNT)))
    assert read_session(world).status == SessionStatus.CLOSING
    world.chain.skip(1)
    world.chain.expect_error(world.client, state_requests(world, range(9, 11)), errors.EscrowReturned)


def test_the_exposure_is_over_the_total() -> None:
    """A statement that no bond bears is refused, and its halves settle one after the other."""
    world = World(worker_bond_min=1, base_challenge_ppm=10_000, probation_value=0)
    eve = get_dev_identity("eve")
    bond = -(-3 * 3 * GROSS * 1000 // 900)
    world.chain.expect_ok(eve, world.register_worker(eve, 0, 2, bond=bond))
    world.workers[0] = eve
    world.chain.expect_error(world.client, state_requests(world, range(4)), errors.ExposureExceeded)
    call = state_requests(world, range(3))
    world.chain.expect_ok(world.client, call)
    request = queries.read_request(world.chain.state, get_id(call))
    assert request is not None
    assert [one.challenge_ppm for one in request.stages] == [1_000_000, 10_000, 10_000]
    world.chain.expect_error(world.client, state_requests(world, [3]), errors.ExposureExceeded)


def test_an_idle_worker_is_refunded_at_once(world: World) -> None:
    world.chain.expect_ok(world.workers[1], calls.RetireWorker(world.workers[1].worker_key.public_key))
    world.chain.skip(110)
    call = state_requests(world, range(COUNT))
    receipt = world.chain.expect_ok(world.client, call)
    assert [(one.stage, one.amount) for one in pick(receipt.events, StageRefunded)] == [(1, COUNT * GROSS)]
    request = queries.read_request(world.chain.state, get_id(call))
    assert request is not None
    assert [one.status for one in request.stages] == [
        StageStatus.AWAITING_DRAW,
        StageStatus.REFUNDED,
        StageStatus.AWAITING_DRAW,
    ]


def test_numbers_with_gaps_over_many_chunks(world: World) -> None:
    """Slices are named as if there were no numbers between."""
    world.session = world.open_session(requests_max=SESSION_SEQUENCES_MAX)
    last = SESSION_SEQUENCES_MAX - 1
    numbers = [0, SEQUENCES_CHUNK - 1, SEQUENCES_CHUNK, 5 * SEQUENCES_CHUNK, last]
    leaves = [
        replace(one, slice_start=place * SLICE, slice_end=(place + 1) * SLICE)
        for place, one in enumerate(make_leaves(world, numbers))
    ]
    world.chain.expect_ok(world.client, sign_statement(world, state_leaves(world, leaves)))
    chunks = [key[1] for key, _ in inference.sequences_used.iterate(world.chain.state, world.session)]
    assert chunks == [0, 1, 5, SESSION_SEQUENCES_MAX // SEQUENCES_CHUNK - 1]
    for number in numbers:
        again = world.settle(number, slice_start=9 * SLICE, slice_end=10 * SLICE)
        world.chain.expect_error(world.workers[0], again, errors.SequenceUsed)
    free = world.settle(SEQUENCES_CHUNK - 2, slice_start=9 * SLICE, slice_end=10 * SLICE)
    world.chain.expect_ok(world.workers[0], free)


def test_a_session_has_so_many_numbers(world: World) -> None:
    opening = calls.OpenSession(world.model, world.session_key.public_key, PRICE, DEPOSIT, SESSION_SEQUENCES_MAX + 1)
    world.chain.expect_error(world.client, opening, errors.RequestsBeyondNumbers)
    beyond = world.settle(SESSION_SEQUENCES_MAX, slice_start=0, slice_end=SLICE)
    world.chain.expect_error(world.workers[0], beyond, errors.BadOrder)


def test_prices_are_by_layers(world: World) -> None:
    call = sign_statement(world, state_leaves(world, make_leaves(world, [0, 1], tokens=0, prompt_tokens=64)))
    (told,) = pick(world.chain.expect_ok(world.client, call).events, StatementSettled)
    assert told.price == LAYERS * 2 * 64 * PRICE // 2
