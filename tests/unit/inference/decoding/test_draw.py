"""Sampling against its golden vectors, an independent Philox, the distribution it promises, and bad inputs."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import proto_specs
from inference.decoding.draw import compute_noise, draw_words, is_sample_consistent, sample
from inference.errors import SamplingError
from proto_specs.types.sampling import SamplingParams

VECTORS = json.loads((Path(proto_specs.__file__).parent / "vectors" / "sampling.json").read_text())
U64 = 2**64 - 1


def _philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox4x64-10 as in the paper (Salmon et al. 2011), written from it."""
    for _ in range(10):
        high0, low0 = divmod(0xD2E7470EE14C6C93 * counter[0], 2**64)
        high1, low1 = divmod(0xCA5A826395121157 * counter[2], 2**64)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B97F4A7C15) & U64, (key[1] + 0xBB67AE8584CAA73B) & U64]
    return counter


def _read_logits(spec: dict[str, Any]) -> NDArray[np.float32]:
    if "values" in spec:
        return np.array(spec["values"], np.float32)
    values = [((i * spec["step"]) % spec["modulus"]) / spec["divisor"] for i in range(spec["count"])]
    return np.array(values, np.float32)


def _read_params(case: dict[str, Any]) -> SamplingParams:
    return SamplingParams(case["temperature_milli"], case["top_k"], case["top_p_milli"], int(case["seed"]))


@pytest.mark.parametrize("case", VECTORS["noise"], ids=lambda one: f"{one['seed']}-{one['position']}-{one['token']}")
def test_noise_vectors_hold_for_numpy_and_for_the_paper(case: dict[str, Any]) -> None:
    seed, position, token = int(case["seed"]), case["position"], case["token"]
    word = _philox([token // 4 + 1, position, 0, 0], [seed, 0])[token % 4]
    assert word == int(case["word"])
    uniform = ((word >> 11) + 0.5) / 2**53
    assert math.isclose(-math.log(-math.log(uniform)), case["noise"], rel_tol=1e-12)
    assert math.isclose(compute_noise(draw_words(seed, position, token + 1))[token], case["noise"], rel_tol=1e-12)


@pytest.mark.parametrize("case", VECTORS["samples"], ids=lambda one: one["name"])
def test_sample_vectors(case: dict[str, Any]) -> None:
    logits, params = _read_logits(case["logits"]), _read_params(case)
    assert sample(logits, params, case["position"]) == case["token"]
    for claim in case["consistent"]:
        margin = claim["margin_micro"] / 1e6
        found = is_sample_consistent(logits, params, case["position"], claim["claimed"], margin)
        assert found == claim["consistent"], claim


def test_draws_follow_the_softmax() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.2], np.float32))
    draws = [sample(logits, SamplingParams(1000, 0, 1000, 77), position) for position in range(6000)]
    shares = np.bincount(draws, minlength=3) / 6000
    assert np.abs(shares - [0.5, 0.3, 0.2]).max() < 0.02


def test_seed_and_position_both_matter_and_nothing_else() -> None:
    logits = np.zeros(50, np.float32)
    draws = {
        (seed, at): sample(logits, SamplingParams(1000, 0, 1000, seed), at) for seed in range(9) for at in range(9)
    }
    assert len(set(draws.values())) > 25
    assert draws[3, 4] == sample(logits, SamplingParams(1000, 0, 1000, 3), 4)


def test_top_k_and_top_p_bound_the_support() -> None:
    logits = np.log(np.array([0.1, 0.4, 0.3, 0.2], np.float32))
    by_k = {sample(logits, SamplingParams(1000, 2, 1000, 1), at) for at in range(300)}
    by_p = {sample(logits, SamplingParams(1000, 0, 650, 1), at) for at in range(300)}
    assert by_k == by_p == {1, 2}


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=40),
    st.integers(0, 3000),
    st.integers(0, 10),
    st.integers(1, 1000),
    st.integers(0, U64),
    st.integers(0, 2**32),
)
def test_an_honest_draw_from_jittered_logits_is_consistent(
    values: list[float], temperature: int, top_k: int, top_p: int, seed: int, jitter_seed: int
) -> None:
    logits = np.array(values, np.float32)
    params = SamplingParams(temperature, top_k, top_p, seed)
    jitter = np.random.default_rng(jitter_seed).uniform(-1e-3, 1e-3, logits.size).astype(np.float32)
    token = sample(logits + jitter, params, 5)
    assert is_sample_consistent(logits, params, 5, token, 2.1e-3)


def test_the_margin_widens_top_k_by_itself_and_no_more() -> None:
    params = SamplingParams(1000, 1, 1000, 4)
    for gap, expected in ((0.0015, True), (0.003, False)):
        logits = np.array([1.0, 1.0 - gap, -5.0], np.float32)
        assert is_sample_consistent(logits, params, 0, 1, 0.002) == expected


def test_the_margin_widens_top_p_by_what_it_allows_the_sums() -> None:
    params = SamplingParams(1000, 0, 500, 4)
    for share, expected in ((0.5001, True), (0.51, False)):
        logits = np.log(np.array([share, 0.8 - share, 0.2], np.float32))
        assert sample(logits, params, 0) == 0, "the first token alone reaches top_p"
        assert is_sample_consistent(logits, params, 0, 1, 0.002) == expected


def test_the_margin_allows_near_ties_of_scores() -> None:
    logits = -compute_noise(draw_words(9, 2, 40))
    logits[3] += 0.001
    params = SamplingParams(1000, 0, 1000, 9)
    values = logits.astype(np.float32)
    assert sample(values, params, 2) == 3
    assert is_sample_consistent(values, params, 2, 5, 0.002)
    assert not is_sample_consistent(values, params, 2, 5, 0.0005)


def test_a_token_of_another_seed_is_inconsistent() -> None:
    logits = np.random.default_rng(0).standard_normal(500).astype(np.float32)
    mine, other = SamplingParams(1000, 0, 1000, 1), SamplingParams(1000, 0, 1000, 2)
    caught = sum(not is_sample_consistent(logits, mine, at, sample(logits, other, at), 0.002) for at in range(100))
    assert caught >= 95


@pytest.mark.parametrize(
    ("logits", "params"),
    [
        ([1.0, math.nan], (0, 0, 1000, 0)),
        ([1.0, math.inf], (1000, 0, 1000, 0)),
        ([], (0, 0, 1000, 0)),
        ([[1.0]], (0, 0, 1000, 0)),
        ([1.0], (1000, 0, 0, 0)),
        ([1.0], (1000, 0, 1001, 0)),
        ([1.0], (100_001, 0, 1000, 0)),
    ],
)
def test_bad_inputs_are_refused(logits: list[float], params: tuple[int, int, int, int]) -> None:
    values = np.array(logits, np.float32)
    with pytest.raises(SamplingError):
        sample(values, SamplingParams(*params), 0)
    with pytest.raises(SamplingError):
        is_sample_consistent(values, SamplingParams(*params), 0, 0, 0.0)
