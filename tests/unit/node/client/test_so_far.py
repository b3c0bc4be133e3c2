"""Where an answer of an earlier asker goes on: the next order continues it, and bills prompt and tokens anew."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from node.client.answer import AnsweredBefore, Ask
from node.client.escrow_session import EscrowSlice
from node.client.so_far import AnswerSoFar
from proto_specs.order_rules import make_bounds, validate_order
from proto_specs.types.request import PathStage, compute_price_max
from proto_specs.types.sampling import SamplingParams
from tests.property.inference.serving.harness import LAYERS, make_manifest

GREEDY = SamplingParams(0, 0, 1000, 0)
MANIFEST = make_manifest()
ROUTE = cast("Any", SimpleNamespace(manifest=MANIFEST, path=(PathStage(b"w" * 32, 0, LAYERS, 2, 3),)))
BEFORE = AnsweredBefore(b"r" * 32, (7, 8), 17)
ASK = Ask(b"m" * 32, (1, 2, 3), 6, GREEDY, 10, before=BEFORE)


def make_order(ask: Ask) -> Any:
    return AnswerSoFar(ask).make_order(b"g" * 32, b"s" * 32, ROUTE, EscrowSlice(0, 0, 1_000))


def test_the_order_continues_the_request_before() -> None:
    order = make_order(ASK)
    validate_order(order, make_bounds(MANIFEST))
    assert order.continuation is not None
    assert (order.continuation.request, order.epoch) == (b"r" * 32, 17)
    assert (order.answer_start, order.settled_positions) == (3, 0)
    assert (order.prompt_tokens, order.tokens_max) == (5, 4)
    assert compute_price_max(order) == LAYERS * (5 * 2 + 4 * 3)


def test_each_order_is_of_a_later_epoch() -> None:
    so_far = AnswerSoFar(ASK)
    so_far.note_ordered()
    order = so_far.make_order(b"g" * 32, b"s" * 32, ROUTE, EscrowSlice(0, 0, 1_000))
    assert order.epoch == 18


def test_before_any_token_it_is_a_continuation_too() -> None:
    order = make_order(Ask(b"m" * 32, (1, 2, 3), 6, GREEDY, 10, before=AnsweredBefore(b"r" * 32, ())))
    validate_order(order, make_bounds(MANIFEST))
    assert (order.answer_start, order.prompt_tokens, order.epoch) == (3, 3, 1)


def test_a_new_answer_continues_nothing() -> None:
    assert make_order(Ask(b"m" * 32, (1, 2, 3), 6, GREEDY, 10)).continuation is None
