"""Distances by running sums are those of the fingerprint, whatever the window and the wire."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.calibration.distances import Recomputed, send
from inference.errors import FingerprintError
from inference.fingerprint import DISTANCE_PPB_MAX, compute_distance, compute_scale
from proto_specs.types.manifest import WireDtype

WIRES = (WireDtype.FP32, WireDtype.FP16, WireDtype.BF16)


@given(
    seed=st.integers(0, 2**32 - 1),
    positions=st.integers(1, 40),
    width=st.integers(1, 9),
    wire=st.sampled_from(WIRES),
    noise=st.sampled_from([0.0, 1e-6, 1e-3, 1.0]),
)
def test_windows_are_as_far_off_as_one_by_one(
    seed: int, positions: int, width: int, wire: WireDtype, noise: float
) -> None:
    generator = np.random.default_rng(seed)
    entered = generator.standard_normal((positions, width)).astype(np.float32)
    own = entered + generator.standard_normal((positions, width)).astype(np.float32) * np.float32(0.1)
    computed = (own * (1 + noise * generator.standard_normal(own.shape))).astype(np.float32)
    judge = Recomputed(own, entered, wire)
    claimed = send(computed, wire)
    for length, found in judge.measure(computed, range(1, positions + 1)).items():
        assert len(found) == positions - length + 1
        for first, distance in enumerate(found):
            window = slice(first, first + length)
            scale = compute_scale(judge.delta[: window.stop])
            wanted = compute_distance(claimed[window], own[window], entered[window], scale, wire)
            assert abs(int(distance) - wanted) <= 2 + wanted * 1e-6


def test_what_no_wire_can_hold_is_as_far_off_as_can_be() -> None:
    entered = np.ones((3, 4), np.float32)
    judge = Recomputed(entered * 2, entered, WireDtype.FP16)
    assert (judge.measure(entered * np.float32(1e9), [1, 2])[2] == DISTANCE_PPB_MAX).all()


def test_a_shard_that_changes_nothing_cannot_be_compared() -> None:
    entered = np.ones((3, 4), np.float32)
    with pytest.raises(FingerprintError):
        Recomputed(entered, entered, WireDtype.BF16)
