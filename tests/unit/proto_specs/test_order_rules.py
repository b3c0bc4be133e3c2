"""What an order may be: every bound from both sides, and that each refusal says what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proto_specs.limits import LOGPROBS_MAX, OPENING_BYTES_MAX, POSITIONS_MAX
from proto_specs.order_rules import ModelBounds, OrderInvalid, compute_opening_bytes_max, make_bounds, validate_order
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.manifest import WireDtype
from proto_specs.types.request import Continuation, Order, compute_price_max, compute_settled_price
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias, make_grammar
from tests.vectors.samples import make_manifest, make_order

RULES = SamplingParams(0, 0, 1000, 7)
ORDER = replace(make_order(), sampling=RULES)
LAYERS = ORDER.path[-1].end
BOUNDS = ModelBounds(LAYERS, 1_000, 4_096, 256, ORDER.service_class)
GRAMMAR = make_grammar(GrammarKind.LARK, b"start: /a/")


def check(bounds: ModelBounds = BOUNDS, **fields: Any) -> Order:
    order = replace(ORDER, **fields)
    validate_order(order, bounds)
    return order


def check_rules(**fields: Any) -> None:
    check(sampling=replace(RULES, **fields))


ALLOWED: list[dict[str, Any]] = [
    {"temperature_milli": 0},
    {"temperature_milli": 100_000},
    {"top_k": 2**32 - 1},
    {"top_p_milli": 1},
    {"min_p_milli": 1_000},
    {"repetition_penalty_milli": 10},
    {"repetition_penalty_milli": 10_000},
    {"presence_penalty_milli": -10_000, "frequency_penalty_milli": 10_000},
    {"logit_bias": (TokenBias(0, -1_000_000), TokenBias(999, 1_000_000))},
    {"stop": (b"a", b"b")},
    {"logprobs": LOGPROBS_MAX, "prompt_logprobs": True},
    {"grammar": GRAMMAR},
    {"grammar": replace(GRAMMAR, kind=GrammarKind.JSON_SCHEMA)},
]
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"temperature_milli": 100_001}, "temperature 100.001 is above 100"),
    ({"top_p_milli": 0}, "top_p 0 is not above 0"),
    ({"top_p_milli": 1_001}, "top_p 1.001"),
    ({"min_p_milli": 1_001}, "min_p 1.001 is above 1"),
    ({"repetition_penalty_milli": 9}, "repetition penalty 0.009"),
    ({"repetition_penalty_milli": 10_001}, "repetition penalty 10.001"),
    ({"presence_penalty_milli": -10_001}, "presence penalty -10.001"),
    ({"frequency_penalty_milli": 10_001}, "frequency penalty 10.001"),
    ({"logit_bias": (TokenBias(1_000, 0),)}, "tokens of the 1000"),
    ({"logit_bias": (TokenBias(2, 0), TokenBias(1, 0))}, "ascending"),
    ({"logit_bias": (TokenBias(2, 0), TokenBias(2, 1))}, "each once"),
    ({"logit_bias": (TokenBias(2, -1_000_001),)}, "beyond 1000"),
    ({"stop": (b"a", b"")}, "not empty"),
    ({"stop": (b"a", b"a")}, "each given once"),
    ({"logprobs": LOGPROBS_MAX + 1}, "log-probabilities a token"),
    ({"prompt_logprobs": True}, "but none a token"),
    ({"grammar": replace(GRAMMAR, engine="mine")}, "not mine"),
    ({"grammar": replace(GRAMMAR, version="0")}, "grammars are read by"),
    ({"grammar": replace(GRAMMAR, kind=3)}, "kind 3"),
]


@pytest.mark.parametrize("fields", ALLOWED, ids=str)
def test_every_rule_reaches_to_its_bound(fields: dict[str, Any]) -> None:
    check_rules(**fields)


@pytest.mark.parametrize(("fields", "said"), REFUSED, ids=lambda one: str(one))
def test_beyond_its_bound_a_rule_is_refused_by_name(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(OrderInvalid, match=said):
        check_rules(**fields)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"service_class": ORDER.service_class + 1}, "served in class"),
        ({"path": ()}, "does not cover"),
        ({"path": ORDER.path[:-1]}, "does not cover"),
        ({"path": ORDER.path[::-1]}, "does not cover"),
        ({"path": (*ORDER.path, replace(ORDER.path[-1], start=LAYERS))}, "does not cover"),
        ({"path": (replace(ORDER.path[0], start=0, end=0), *ORDER.path)}, "does not cover"),
        ({"prompt_tokens": 0}, "at least one prompt token"),
        ({"tokens_max": 0}, "at least one"),
        ({"prompt_tokens": 4_096, "tokens_max": 2}, "take 4097 positions of 4096"),
        ({"prompt_tokens": 2**32 - 1, "tokens_max": 2**32 - 1}, "positions"),
        ({"slice_start": 5, "slice_end": 5}, "not empty"),
        ({"slice_start": 6, "slice_end": 5}, "not empty"),
    ],
    ids=str,
)
def test_an_order_that_does_not_fit_the_model_is_refused(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(OrderInvalid, match=said):
        check(**fields)


def test_positions_reach_to_the_context_and_to_what_leaves_can_count() -> None:
    check(prompt_tokens=4_096, tokens_max=1)
    check(prompt_tokens=4_095, tokens_max=2)
    wide = replace(BOUNDS, context_max=2 * POSITIONS_MAX, row_bytes=1)
    check(wide, prompt_tokens=POSITIONS_MAX, tokens_max=1)
    with pytest.raises(OrderInvalid, match="positions"):
        check(wide, prompt_tokens=POSITIONS_MAX, tokens_max=2)


def test_what_cannot_be_opened_is_refused() -> None:
    stages, windows = len(ORDER.path), 128
    rows = OPENING_BYTES_MAX // (130 * 32)
    while compute_opening_bytes_max(windows - 1, windows, stages, rows) > OPENING_BYTES_MAX:
        rows -= 1
    check(replace(BOUNDS, row_bytes=rows), prompt_tokens=4_096, tokens_max=1)
    with pytest.raises(OrderInvalid, match="opened to a verifier"):
        check(replace(BOUNDS, row_bytes=rows + 1), prompt_tokens=4_096, tokens_max=1)


def test_bounds_are_those_of_the_manifest() -> None:
    manifest = make_manifest()
    shape = manifest.architecture
    bounds = make_bounds(manifest)
    assert (bounds.layers, bounds.vocab, bounds.context_max) == (shape.layers, shape.vocab, shape.context_max)
    assert bounds.row_bytes == shape.hidden * WireDtype(manifest.wire_dtype).item_bytes
    assert (bounds.service_class, bounds.positions_max) == (
        manifest.service_class,
        min(shape.context_max, POSITIONS_MAX),
    )


def continue_from(**fields: int) -> dict[str, Any]:
    """A continuation at a prompt of 100 tokens, 40 of them the real prompt's."""
    stated = {"epoch": 1, "answer_start": 40, "settled_positions": 64, **fields}
    return {"prompt_tokens": 100, "tokens_max": 20, "continuation": Continuation(ZERO_HASH, **stated)}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"epoch": 255},
        {"answer_start": 1},
        {"answer_start": 100},
        {"settled_positions": 0},
        {"settled_positions": 96},
    ],
)
def test_continuations_that_can_be_served(fields: dict[str, int]) -> None:
    check(**continue_from(**fields))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"epoch": 0}, "epoch 1 or later"),
        ({"answer_start": 0}, "begins at 0"),
        ({"answer_start": 101}, "begins at 101"),
        ({"settled_positions": 33}, "not whole windows"),
        ({"settled_positions": 128}, "of a prompt of 100"),
        ({"settled_positions": 2**32 - 32}, "of a prompt of 100"),
    ],
)
def test_continuations_that_go_on_from_nothing_are_refused(fields: dict[str, int], reason: str) -> None:
    with pytest.raises(OrderInvalid, match=reason):
        check(**continue_from(**fields))


def test_a_prompt_of_whole_windows_is_not_settled_to_its_end() -> None:
    """An order bills at least one position: the last one, from which its first token is drawn."""
    whole = {**continue_from(settled_positions=96), "prompt_tokens": 96}
    with pytest.raises(OrderInvalid, match="of a prompt of 96"):
        check(**whole)


def test_an_order_bills_the_prompt_that_no_order_before_has_settled() -> None:
    order = check(**continue_from())
    layers = sum((one.end - one.start) * one.prefill_price for one in order.path)
    tokens = sum((one.end - one.start) * one.decode_price for one in order.path)
    assert compute_price_max(order) == 36 * layers + 20 * tokens
    assert compute_settled_price(order, 0, 96) == 32 * layers
    assert compute_settled_price(order, 5, 104) == 36 * layers + 5 * tokens
    assert compute_settled_price(order, 0, 32) == 0
    plain = replace(order, continuation=None)
    assert compute_settled_price(plain, 0, 96) == 96 * layers
    assert (plain.epoch, plain.answer_start, plain.settled_positions, plain.needs_prompt) == (0, 100, 0, False)
    assert (order.epoch, order.answer_start, order.settled_positions, order.needs_prompt) == (1, 40, 64, True)
