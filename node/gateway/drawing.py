"""Turns what a client says of drawing tokens into the decoding rules of an order."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace

from node.gateway.api.schemas.common import DrawingFields
from node.gateway.errors import refuse
from node.gateway.grammars import BoundGrammar
from proto_specs.limits import STOP_BYTES_MAX
from proto_specs.order_rules import MILLI, OrderInvalid, validate_sampling
from proto_specs.types.sampling import SamplingParams, TokenBias

_SEEDS = 1 << 64


def make_sampling(
    fields: DrawingFields, stops: Sequence[str], vocab: int, grammar: BoundGrammar | None
) -> SamplingParams:
    """The rules of the first choice. Without a seed a random one is taken. Raises ApiRefusal 400."""
    top_k = fields.top_k
    sampling = SamplingParams(
        temperature_milli=_to_milli(fields.temperature, 1.0),
        top_k=0 if top_k is None or top_k < 0 else top_k,
        top_p_milli=max(1, _to_milli(fields.top_p, 1.0)),
        seed=int.from_bytes(os.urandom(8), "little") if fields.seed is None else fields.seed % _SEEDS,
        min_p_milli=_to_milli(fields.min_p, 0.0),
        repetition_penalty_milli=_to_milli(fields.repetition_penalty, 1.0),
        presence_penalty_milli=_to_milli(fields.presence_penalty, 0.0),
        frequency_penalty_milli=_to_milli(fields.frequency_penalty, 0.0),
        logit_bias=_make_bias(fields.logit_bias or {}, vocab),
        stop=tuple(one.encode() for one in stops),
        grammar=None if grammar is None else grammar.reference,
    )
    try:
        validate_sampling(sampling, vocab)
    except OrderInvalid as error:
        raise refuse(error.message) from None
    return sampling


def add_logprobs(sampling: SamplingParams, likeliest: int, *, of_prompt: bool = False) -> SamplingParams:
    """The same rules, with the log-probability of each token and of so many likeliest; of the prompt's tokens too."""
    return replace(sampling, logprobs=likeliest + 1, prompt_logprobs=of_prompt)


def vary_seed(sampling: SamplingParams, number: int) -> SamplingParams:
    """The rules of choice `number`: the seed that much further."""
    return replace(sampling, seed=(sampling.seed + number) % _SEEDS)


def read_stops(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    """Stop strings, each once. Raises ApiRefusal 400 for one that is empty or too long."""
    given = (stop,) if isinstance(stop, str) else tuple(stop or ())
    if any(not one or len(one.encode()) > STOP_BYTES_MAX for one in given):
        raise refuse(f"a stop string has 1 to {STOP_BYTES_MAX} bytes", "stop")
    return tuple(dict.fromkeys(given))


def _to_milli(value: float | None, default: float) -> int:
    return round((default if value is None else value) * MILLI)


def _make_bias(given: dict[str, float], vocab: int) -> tuple[TokenBias, ...]:
    biases: dict[int, int] = {}
    for name, value in given.items():
        if not name.isascii() or not name.isdecimal() or len(name) > 10 or int(name) >= vocab:
            raise refuse(f"logit_bias: {name!r:.40} is no token id of this model (0 to {vocab - 1})", "logit_bias")
        if not -100 <= value <= 100:
            raise refuse("logit_bias: values are from -100 to 100", "logit_bias")
        biases[int(name)] = round(value * MILLI)
    return tuple(TokenBias(token, bias) for token, bias in sorted(biases.items()))
