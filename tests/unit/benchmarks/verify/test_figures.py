"""The figures that need no model: bytes follow the wire's dtype, a statement costs at most two settlements."""

from __future__ import annotations

import numpy as np

from benchmarks.manifests import build_manifest
from benchmarks.verify.adversary import step_codes
from benchmarks.verify.attacks import round_bits
from benchmarks.verify.figures import measure_commitments, measure_settlement, measure_wire
from inference.calibration.distances import send
from proto_specs.types.manifest import WireDtype


def test_a_row_has_two_bytes_a_value() -> None:
    found = measure_wire(build_manifest(3, wire_dtype=WireDtype.BF16))
    assert found["per_width"] == 2.0
    assert found["row_bytes"] < found["frame_bytes_prefill_per_token"] < found["frame_bytes_decode"]


def test_signing_every_other_window_halves_what_a_token_costs() -> None:
    found = measure_commitments()["per_token_if_signed_every_n_windows"]
    assert found["2"] == found["1"] / 2


def test_ten_thousand_requests_weigh_at_most_two_settlements() -> None:
    found = measure_settlement()
    assert found["requests_in_the_statement"] >= 10_000
    assert found["weight_ratio"] <= 2.0


def test_the_next_code_is_one_step_away_whatever_the_sign() -> None:
    rows = send(np.array([[1.0, -1.0, 1.5, -3.0, 0.0078125]], np.float32), WireDtype.BF16)
    for up in (True, False):
        stepped = step_codes(rows, np.full(rows.shape, up))
        assert ((stepped > rows) == up).all()
        assert send(stepped, WireDtype.BF16).tobytes() == stepped.tobytes()
        assert (step_codes(stepped, np.full(rows.shape, not up)) == rows).all()


def test_rounding_to_ten_stored_bits_is_that_of_fp16() -> None:
    values = np.random.default_rng(1).standard_normal((4, 50)).astype(np.float32)
    assert np.abs(round_bits(values, 10) - values.astype(np.float16)).max() <= np.abs(values).max() * 2**-10
    assert (round_bits(values, 22) - values != 0).any()
