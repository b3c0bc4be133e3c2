"""Logits and noise that a client's rules make extreme: the short cuts of a draw give what the plain formula gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.decoding import draw
from inference.decoding.chooser import TokenChooser
from inference.decoding.draw import compute_noise, draw_words, is_sample_consistent, sample
from proto_specs.types.sampling import SamplingParams, TokenBias

VOCAB = 1_200
"""More than are ranked first."""
SCALES = (0.0, 1e-40, 1e-3, 1.0, 30.0, 1e4, 1e20, 3e38)
KINDS = ("normal", "equal", "signed zeros", "two values", "one high", "denormal")


def make_logits(kind: str, scale: float, seed: int) -> Any:
    drawn = np.random.default_rng(seed)
    values = {
        "normal": drawn.standard_normal(VOCAB) / 4,
        "equal": np.ones(VOCAB),
        "signed zeros": np.where(drawn.random(VOCAB) < 0.5, -0.0, 0.0),
        "two values": np.where(drawn.random(VOCAB) < 0.5, -1.0, 1.0),
        "one high": np.eye(1, VOCAB, int(drawn.integers(VOCAB)))[0],
        "denormal": drawn.integers(-3, 3, VOCAB) * 1.4e-45,
    }[kind]
    scaled = values * (1.0 if kind == "denormal" else scale)
    return np.clip(scaled, -3.4e38, 3.4e38).astype(np.float32)


def sample_plainly(logits: Any, params: SamplingParams, position: int) -> int:
    """All tokens sorted, all of them given noise."""
    values = logits.astype(np.float64)
    temperature = params.temperature_milli / 1000
    order = sorted(range(values.size), key=lambda one: (-values[one], one))
    order = order[: params.top_k or None]
    if params.top_p_milli < 1000:
        high = values.max()
        places = order if params.top_k else range(values.size)
        total = np.exp((values[list(places)] - high) / temperature).sum()
        before = np.concatenate([[0.0], np.cumsum(np.exp((values[order] - high) / temperature))[:-1]]) / total
        order = [one for one, mass in zip(order, before, strict=True) if mass < params.top_p_milli / 1000]
    if params.min_p_milli:
        least = values.max() + temperature * np.log(params.min_p_milli / 1000)
        order = [one for one in order if values[one] >= least]
    scores = values + temperature * compute_noise(draw_words(params.seed, position, values.size))
    return min(order, key=lambda one: (-scores[one], one))


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    scale=st.sampled_from(SCALES),
    temperature=st.sampled_from((1, 700, 1000, 100_000)),
    top_k=st.sampled_from((0, 1, 40, 1_199, 1_200, 2**32 - 1)),
    top_p=st.sampled_from((1, 500, 999, 1000)),
    min_p=st.sampled_from((0, 1, 50, 1000)),
    seed=st.integers(0, 2**64 - 1),
)
def test_short_cuts_change_nothing(
    kind: str, scale: float, temperature: int, top_k: int, top_p: int, min_p: int, seed: int
) -> None:
    params = SamplingParams(temperature, top_k, top_p, seed, min_p_milli=min_p)
    logits = make_logits(kind, scale, seed % 2**32)
    drawn = sample(logits, params, seed % 4096)
    assert drawn == sample_plainly(logits, params, seed % 4096)
    assert is_sample_consistent(logits, params, seed % 4096, drawn, 0.0)


@pytest.mark.parametrize("word", [0, 2**64 - 1])
@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_rarest_words_convict_nobody(word: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client may search for a seed whose word rounds to u = 1, of infinite noise. Worker and verifier agree on it."""
    words = draw_words(7, 3, VOCAB)
    words[[5, 9]] = word
    monkeypatch.setattr(draw, "draw_words", lambda *_: words)
    logits = make_logits("normal", 1.0, 1)
    for params in (
        SamplingParams(1000, 0, 1000, 7),
        SamplingParams(1000, 0, 900, 7),
        SamplingParams(1000, 40, 1000, 7),
    ):
        drawn = sample(logits, params, 3)
        assert is_sample_consistent(logits, params, 3, drawn, 0.0)
        assert is_sample_consistent(logits + np.float32(1e-4), params, 3, drawn, 1e-3)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    repetition=st.sampled_from((10, 500, 1000, 1300, 10_000)),
    penalty=st.sampled_from((-10_000, 0, 10_000)),
    top_p=st.sampled_from((1, 900, 1000)),
    top_k=st.sampled_from((0, 1, 7)),
    min_p=st.sampled_from((0, 100, 1000)),
    temperature=st.sampled_from((0, 1, 1000, 100_000)),
)
def test_honest_noise_is_never_convicted(
    seed: int, repetition: int, penalty: int, top_p: int, top_k: int, min_p: int, temperature: int
) -> None:
    """Whatever rules a client picks, a verifier whose logits are half a margin away accepts what was drawn."""
    margin = 1e-3
    drawn = np.random.default_rng(seed)
    biases = tuple(TokenBias(one, int(drawn.integers(-(10**6), 10**6))) for one in range(0, 60, 7))
    params = SamplingParams(*(temperature, top_k, top_p, seed, min_p, repetition, penalty, -penalty), logit_bias=biases)
    prompt = drawn.integers(0, 60, 10).tolist()
    worker, verifier = (TokenChooser(params, (), prompt) for _ in range(2))
    for position in range(6):
        logits = (drawn.integers(-20, 20, 60) * margin / 4).astype(np.float32)  # near ties and near zero
        other = (logits + drawn.choice((-1.0, 0.0, 1.0), 60) * margin * 0.499).astype(np.float32)
        token = worker.choose(logits, position).token
        assert verifier.is_consistent(other, position, token, margin)
        verifier.advance(token)
