"""Distances and projections against golden vectors, a plain re-implementation of the page, and poisoned inputs."""

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
from numpy.testing import assert_allclose
from numpy.typing import NDArray

import proto_specs
from inference.errors import FingerprintError
from inference.fingerprint import (
    DISTANCE_PPB_MAX,
    compute_delta,
    compute_distance,
    compute_projection,
    compute_projection_distance,
    compute_scale,
)

VECTORS = json.loads((Path(proto_specs.__file__).parent / "vectors" / "fingerprint.json").read_text())
SEED = bytes(range(32))


def _rows(text: str, channels: int) -> NDArray[np.float32]:
    return np.frombuffer(bytes.fromhex(text), "<f4").reshape(-1, channels)


@pytest.mark.parametrize("case", VECTORS["windows"], ids=lambda one: one["name"])
def test_window_vectors(case: dict[str, Any]) -> None:
    own_in, own_out, claimed = (_rows(case[key], case["channels"]) for key in ("own_in", "own_out", "claimed_out"))
    window = slice(case["window_start"], None)
    delta = compute_delta(own_out, own_in)
    scale = compute_scale(delta)
    assert_allclose(scale, case["scale"], rtol=1e-12)
    assert compute_distance(claimed, own_out[window], own_in[window], scale) == case["distance_ppb"]
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
    pairs = zip(claimed, own_out[start:], strict=True)
    error = sum(((a - b) / s) ** 2 for x, y in pairs for a, b, s in zip(x, y, scale, strict=True))
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


@pytest.mark.parametrize("share", [1e-6, 1e-4, 1e-2])
def test_distance_and_projection_both_measure_the_noise(share: float) -> None:
    entered, own = _window()
    delta = compute_delta(own, entered)
    scale = compute_scale(delta)
    noise = np.random.default_rng(4).standard_normal(own.shape) * scale * share
    claimed = (own + noise).astype(np.float32)
    assert compute_distance(claimed, own, entered, scale) == pytest.approx(share * 1e9, rel=0.05)
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
    assert compute_distance(own, own, entered, scale) == 0
    nudged = own.copy()
    nudged[7, 9] = np.nextafter(nudged[7, 9], np.float32(9))
    assert 1 <= compute_distance(nudged, own, entered, scale) < 10


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_never_match(poison: float) -> None:
    entered, own = _window()
    scale = compute_scale(compute_delta(own, entered))
    claimed = own.copy()
    claimed[0, 0] = poison
    with pytest.raises(FingerprintError, match="NaN or infinity"):
        compute_distance(claimed, own, entered, scale)


def test_wrong_shapes_null_deltas_and_short_projections_are_refused() -> None:
    entered, own = _window()
    scale = compute_scale(compute_delta(own, entered))
    for claimed in (own[:31], own[:, :5], own[0], own[:0]):
        with pytest.raises(FingerprintError):
            compute_distance(claimed, own, entered, scale)
    with pytest.raises(FingerprintError, match="zero"):
        compute_scale(compute_delta(own, own))
    with pytest.raises(FingerprintError, match="zero"):
        compute_distance(own, own, own, scale)
    with pytest.raises(FingerprintError, match="32 bytes"):
        compute_projection(compute_delta(own, entered), scale, b"short")
    with pytest.raises(FingerprintError, match="1024 bytes"):
        compute_projection_distance(bytes(1024), bytes(1023))
    assert compute_projection_distance(bytes(1024), bytes(1024)) == DISTANCE_PPB_MAX
