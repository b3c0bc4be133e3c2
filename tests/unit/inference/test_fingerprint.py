"""Distances and projections against golden vectors, the page in plain Python, and what cheats may claim."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray

import proto_specs
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import FingerprintError
from inference.fingerprint import (
    DISTANCE_PPB_MAX,
    compute_delta,
    compute_distance,
    compute_projection,
    compute_projection_distance,
    compute_scale,
)
from inference.model.profiles import make_profile
from proto_specs.types.manifest import ServiceClass, WireDtype
from tests.unit.inference.plain_cells import LARGEST, compute_excess_plainly, read_code, round_plainly

VECTORS = json.loads((Path(proto_specs.__file__).parent / "vectors" / "fingerprint.json").read_text())
SEED = bytes(range(32))
NARROW = (WireDtype.FP16, WireDtype.BF16)


def _rows(text: str, channels: int) -> NDArray[np.float32]:
    return np.frombuffer(bytes.fromhex(text), "<f4").reshape(-1, channels)


def _compute_excess(claimed: float, own: float, wire: WireDtype) -> float:
    if wire is WireDtype.FP32:
        return abs(claimed - own)
    code = round_plainly(claimed, wire)
    assert code is not None
    assert read_code(code, wire) == claimed
    return float(compute_excess_plainly(code, own, wire))


@pytest.mark.parametrize("case", VECTORS["windows"], ids=lambda one: one["name"])
def test_window_vectors(case: dict[str, Any]) -> None:
    own_in, own_out, claimed = (_rows(case[key], case["channels"]) for key in ("own_in", "own_out", "claimed_out"))
    window = slice(case["window_start"], None)
    delta = compute_delta(own_out, own_in)
    scale = compute_scale(delta)
    assert_allclose(scale, case["scale"], rtol=1e-12)
    wire = WireDtype[case["wire_dtype"].upper()]
    assert compute_distance(claimed, own_out[window], own_in[window], scale, wire) == case["distance_ppb"]
    found = np.frombuffer(compute_projection(delta[window], scale, bytes.fromhex(case["seed"])), "<i4")
    assert np.abs(found - np.frombuffer(bytes.fromhex(case["projection"]), "<i4")).max() <= 1


@pytest.mark.parametrize("case", VECTORS["windows"], ids=lambda one: one["name"])
def test_window_vectors_are_what_the_page_says(case: dict[str, Any]) -> None:
    """The page's formulas in plain Python, without the code under test."""
    width, start = case["channels"], case["window_start"]
    own_in, own_out, claimed = (_rows(case[key], width).tolist() for key in ("own_in", "own_out", "claimed_out"))
    delta = [[o - i for o, i in zip(a, b, strict=True)] for a, b in zip(own_out, own_in, strict=True)]
    rms = [math.sqrt(sum(row[c] ** 2 for row in delta) / len(delta)) for c in range(width)]
    scale = [max(one, 2**-4 * (statistics.median(rms) or max(rms))) for one in rms]
    wire = WireDtype[case["wire_dtype"].upper()]
    pairs = zip(claimed, own_out[start:], strict=True)
    error = sum((_compute_excess(a, b, wire) / s) ** 2 for x, y in pairs for a, b, s in zip(x, y, scale, strict=True))
    size = sum((d / s) ** 2 for row in delta[start:] for d, s in zip(row, scale, strict=True))
    assert min(math.ceil(1e9 * math.sqrt(error) / math.sqrt(size)), 10**12) == pytest.approx(
        case["distance_ppb"], abs=1
    )
    count = len(delta[start:]) * width
    head = b"myelin/projection" + bytes.fromhex(case["seed"]) + struct.pack("<II", len(delta[start:]), width)
    draws = struct.unpack(f"<{count}H", hashlib.shake_256(head).digest(2 * count))
    sums = [0.0] * 256
    flat = [(d / s) for row in delta[start:] for d, s in zip(row, scale, strict=True)]
    for value, draw in zip(flat, draws, strict=True):
        sums[draw & 255] += -value if draw & 0x8000 else value
    steps = [round(one * 2**22 / math.sqrt(max(1, count / 256))) for one in sums]
    expected = struct.unpack("<256i", bytes.fromhex(case["projection"]))
    assert max(abs(a - b) for a, b in zip(steps, expected, strict=True)) <= 1


@pytest.mark.parametrize("case", VECTORS["projections"], ids=lambda one: one["name"])
def test_projection_distance_vectors(case: dict[str, Any]) -> None:
    one, other = bytes.fromhex(case["one"]), bytes.fromhex(case["other"])
    assert compute_projection_distance(one, other) == case["distance_ppb"]
    assert compute_projection_distance(other, one) == case["distance_ppb"]


def _window() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    generator = np.random.default_rng(3)
    entered = generator.standard_normal((32, 576)).astype(np.float32)
    return entered, (entered + generator.standard_normal((32, 576))).astype(np.float32)


def _send(rows: NDArray[np.float32], dtype: WireDtype) -> NDArray[np.float32]:
    return decode_rows(encode_rows(rows, dtype), dtype, rows.shape[1])


@pytest.mark.parametrize("share", [1e-6, 1e-4, 1e-2])
def test_distance_and_projection_both_measure_the_noise(share: float) -> None:
    entered, own = _window()
    delta = compute_delta(own, entered)
    scale = compute_scale(delta)
    noise = np.random.default_rng(4).standard_normal(own.shape) * scale * share
    claimed = (own + noise).astype(np.float32)
    assert compute_distance(claimed, own, entered, scale, WireDtype.FP32) == pytest.approx(share * 1e9, rel=0.05)
    apart = compute_projection_distance(
        compute_projection(delta, scale, SEED), compute_projection(compute_delta(claimed, entered), scale, SEED)
    )
    assert apart == pytest.approx(share * 1e9, rel=0.25)


def test_another_seed_gives_an_unrelated_projection() -> None:
    entered, own = _window()
    delta = compute_delta(own, entered)
    scale = compute_scale(delta)
    one, other = compute_projection(delta, scale, SEED), compute_projection(delta, scale, bytes(32))
    assert compute_projection_distance(one, other) > 10**9


def test_equal_rows_have_distance_zero_and_one_bit_does_not() -> None:
    entered, own = _window()
    scale = compute_scale(compute_delta(own, entered))
    assert compute_distance(own, own, entered, scale, WireDtype.FP32) == 0
    nudged = own.copy()
    nudged[7, 9] = np.nextafter(nudged[7, 9], np.float32(9))
    assert 1 <= compute_distance(nudged, own, entered, scale, WireDtype.FP32) < 10


@pytest.mark.parametrize("dtype", [WireDtype.FP32, *NARROW])
@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_never_match(poison: float, dtype: WireDtype) -> None:
    entered, own = _window()
    scale = compute_scale(compute_delta(own, entered))
    claimed = _send(own, dtype)
    claimed[0, 0] = poison
    with pytest.raises(FingerprintError, match="NaN or infinity"):
        compute_distance(claimed, own, entered, scale, dtype)


def test_wrong_shapes_null_deltas_and_short_projections_are_refused() -> None:
    entered, own = _window()
    scale = compute_scale(compute_delta(own, entered))
    for claimed in (own[:31], own[:, :5], own[0], own[:0]):
        with pytest.raises(FingerprintError):
            compute_distance(claimed, own, entered, scale, WireDtype.FP32)
    with pytest.raises(FingerprintError, match="zero"):
        compute_scale(compute_delta(own, own))
    with pytest.raises(FingerprintError, match="zero"):
        compute_distance(own, own, own, scale, WireDtype.FP32)
    with pytest.raises(FingerprintError, match="32 bytes"):
        compute_projection(compute_delta(own, entered), scale, b"short")
    with pytest.raises(FingerprintError, match="1024 bytes"):
        compute_projection_distance(bytes(1024), bytes(1023))
    assert compute_projection_distance(bytes(1024), bytes(1024)) == DISTANCE_PPB_MAX


@pytest.mark.parametrize("dtype", NARROW)
@given(seed=st.integers(0, 2**32 - 1), exponent=st.integers(-12, 12))
def test_what_an_honest_worker_sends_has_distance_zero(dtype: WireDtype, seed: int, exponent: int) -> None:
    generator = np.random.default_rng(seed)
    entered = _send(generator.standard_normal((3, 40)).astype(np.float32), dtype)
    own = (entered + generator.standard_normal((3, 40)) * 2.0**exponent).astype(np.float32)
    scale = compute_scale(compute_delta(own, entered))
    assert compute_distance(_send(own, dtype), own, entered, scale, dtype) == 0


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("share", [1e-3, 1e-2, 1e-1])
def test_a_cell_never_adds_to_the_error_and_hides_no_more_than_rounding(dtype: WireDtype, share: float) -> None:
    entered, own = _window()
    scale = compute_scale(compute_delta(own, entered))
    noise = np.random.default_rng(4).standard_normal(own.shape) * scale * share
    computed = (own + noise).astype(np.float32)
    claimed = _send(computed, dtype)
    seen = compute_distance(claimed, own, entered, scale, dtype)
    assert seen < compute_distance(claimed, own, entered, scale, WireDtype.FP32)
    hidden = compute_distance(_send(own, dtype), own, entered, scale, WireDtype.FP32)
    assert seen > compute_distance(computed, own, entered, scale, WireDtype.FP32) - 2 * hidden
    assert seen > 10 * make_profile(ServiceClass.EXACT, dtype).threshold_ppb


@pytest.mark.parametrize("dtype", NARROW)
@pytest.mark.parametrize("exponent", [1, 4, 8, 12, 15])
def test_a_huge_claim_is_far_off_however_wide_its_cell(dtype: WireDtype, exponent: int) -> None:
    """One element of 18,432 claimed as 2^exponent and more, either sign: the distance grows with the claim."""
    entered, own = _window()
    scale = compute_scale(compute_delta(own, entered))
    for size in (2.0**exponent, -(2.0**exponent), float(read_code(LARGEST[dtype], dtype))):
        claimed = _send(own, dtype)
        before = float(own[3, 3])
        claimed[3, 3] = size
        norm = math.sqrt(float(np.sum(np.square(compute_delta(own, entered) / scale))))
        least = (abs(size - before) - abs(size) / 256) / scale[3] / norm
        seen = compute_distance(claimed, own, entered, scale, dtype)
        assert seen >= min(int(least * 1e9), DISTANCE_PPB_MAX)
        assert seen > 100 * make_profile(ServiceClass.EXACT, dtype).threshold_ppb


@pytest.mark.parametrize("dtype", NARROW)
def test_the_sign_counts_of_every_number_but_zero(dtype: WireDtype) -> None:
    entered, own = _window()
    scale = compute_scale(compute_delta(own, entered))
    own[0, 0] = 0.0
    claimed = _send(own, dtype)
    claimed[0, 0] = -0.0
    assert compute_distance(claimed, own, entered, scale, dtype) == 0
    claimed[0, 1] = -claimed[0, 1]
    assert (
        compute_distance(claimed, own, entered, scale, dtype)
        > 100 * make_profile(ServiceClass.EXACT, dtype).threshold_ppb
    )


@pytest.mark.parametrize(("dtype", "growth"), [(WireDtype.FP16, 1.3), (WireDtype.BF16, 1.02)])
def test_who_knows_the_true_rows_may_choose_some_roundings_and_no_more(dtype: WireDtype, growth: float) -> None:
    """The most a cheat gets out of cells: of every element the next value on the near side, cheapest first.

    It has to compute the true rows first. All it may then do within the threshold is to choose the rounding of elements
    that lie next to an edge: what it sends is hardly further from the true rows than what an honest worker sends.
    """
    entered, own = _window()
    scale = compute_scale(compute_delta(own, entered))
    sent = _send(own, dtype)
    shift = np.uint32(16 if dtype is WireDtype.BF16 else 13)
    outwards = np.abs(own) > np.abs(sent)
    bits = sent.view(np.uint32)
    other = np.where(outwards, bits + (np.uint32(1) << shift), bits - (np.uint32(1) << shift)).view(np.float32)
    middle = (sent.astype(np.float64) + other) / 2
    order = np.argsort((np.abs(middle - own) / scale).reshape(-1))

    def claim(count: int) -> NDArray[np.float32]:
        chosen = np.zeros(own.size, bool)
        chosen[order[:count]] = True
        return np.where(chosen.reshape(own.shape), other, sent)

    threshold = make_profile(ServiceClass.EXACT, dtype).threshold_ppb
    low, high = 0, own.size
    while high - low > 1:
        count = (low + high) // 2
        fits = compute_distance(claim(count), own, entered, scale, dtype) <= threshold
        low, high = (count, high) if fits else (low, count)
    assert low > 0
    honest, chosen = (compute_distance(rows, own, entered, scale, WireDtype.FP32) for rows in (sent, claim(low)))
    assert honest < chosen < growth * honest
