"""What an order may be: every bound from both sides, and that each refusal says what is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from proto_specs.limits import LOGPROBS_MAX, OPENING_BYTES_MAX, POSITIONS_MAX
from proto_specs.order_rules import ModelBounds, OrderInvalid, compute_opening_bytes_max, make_bounds, validate_order
from proto_specs.types.manifest import WireDtype
from proto_specs.types.request import Order
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
