"""The draw takes short cuts over a vocabulary; it is always the draw of the formula, written down plainly."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.decoding.draw import compute_noise, draw_words, sample
from proto_specs.types.sampling import SamplingParams


def draw_plainly(logits: np.ndarray, params: SamplingParams, position: int, allowed: np.ndarray | None) -> int:
    """fingerprint.md, "Sampling", without a thought for speed."""
    values, temperature = logits.astype(np.float64), params.temperature_milli / 1000
    places = np.arange(logits.size) if allowed is None else allowed
    ranked = sorted(places, key=lambda one: (-values[one], one))
    ranked = ranked[: params.top_k] if params.top_k else ranked
    if params.top_p_milli < 1000:
        weights = np.exp((values[ranked] - values[ranked[0]]) / temperature)
        before = np.concatenate([[0.0], np.cumsum(weights)[:-1]]) / weights.sum()
        ranked = [one for one, share in zip(ranked, before, strict=True) if share < params.top_p_milli / 1000]
    if params.min_p_milli:
        least = values[ranked[0]] + temperature * np.log(params.min_p_milli / 1000)
        ranked = [one for one in ranked if values[one] >= least]
    kept = np.sort(ranked)
    scores = values[kept] + temperature * compute_noise(draw_words(params.seed, position, logits.size))[kept]
    return int(kept[np.argmax(scores)])


@settings(max_examples=300)
@given(
    size=st.sampled_from([1, 2, 7, 600, 5_000]),
    spread=st.sampled_from([0.0, 0.01, 1.0, 8.0]),
    temperature=st.integers(1, 3_000),
    top_k=st.sampled_from([0, 0, 1, 40, 10_000]),
    top_p=st.sampled_from([1000, 1000, 1, 500, 950, 999]),
    min_p=st.sampled_from([0, 0, 1, 100, 1000]),
    seed=st.integers(0, 2**64 - 1),
    position=st.integers(0, 4_000),
    share=st.sampled_from([None, 0.01, 0.5]),
)
def test_a_draw_is_that_of_the_formula(
    size: int,
    spread: float,
    temperature: int,
    top_k: int,
    top_p: int,
    min_p: int,
    seed: int,
    position: int,
    share: float | None,
) -> None:
    rng = np.random.default_rng(seed % 1_000)
    logits = np.round(rng.standard_normal(size) * spread, 2).astype(np.float32)  # rounded: with ties
    allowed = None if share is None else np.sort(rng.choice(size, max(1, int(size * share)), replace=False))
    params = SamplingParams(temperature, top_k, top_p, seed, min_p)
    assert sample(logits, params, position, allowed) == draw_plainly(logits, params, position, allowed)
