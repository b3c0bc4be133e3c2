"""A stage that computes something else, or chooses its roundings, and hopes that the wire's rounding covers it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.verify.adversary import spend
from inference.calibration.distances import Recomputed, send
from inference.fingerprint import PPB
from inference.model.profiles import make_profile
from proto_specs.types.manifest import ServiceClass, WireDtype

Rows = NDArray[np.float32]
BF16 = WireDtype.BF16
THRESHOLD = make_profile(ServiceClass.EXACT, BF16).threshold_ppb
WINDOW, WIDTH = 32, 2048
HONEST, SUBTLE = 1e-6, 2e-4
"""Relative errors of a delta: another honest machine's, and that of fp16 weights."""


@pytest.fixture(name="judge", scope="module")
def fixture_judge() -> Recomputed:
    """Rows five times their delta, as those of a stage in the middle of a model are."""
    generator = np.random.default_rng(1)
    entered = send((5 * generator.standard_normal((3 * WINDOW, WIDTH))).astype(np.float32), BF16)
    return Recomputed(entered + generator.standard_normal(entered.shape).astype(np.float32), entered, BF16)


def compute(judge: Recomputed, error: float) -> Rows:
    """What a machine makes of the input whose delta is so far off."""
    noise = np.random.default_rng(2).standard_normal(judge.own.shape)
    return (judge.own + judge.delta * noise * error).astype(np.float32)


def measure_both_rounded(judge: Recomputed, rows: Rows) -> int:
    """The defence removed: the verifier rounds its own rows too, and compares the two."""
    apart = (send(rows, BF16).astype(np.float64) - send(judge.own, BF16)) / judge.scale
    size = judge.delta / judge.scale
    windows = range(0, len(rows), WINDOW)
    norms = [np.linalg.norm(apart[one : one + WINDOW]) / np.linalg.norm(size[one : one + WINDOW]) for one in windows]
    return int(max(norms) * PPB)


def test_fp16_weights_hide_between_two_roundings_and_not_from_a_cell(judge: Recomputed) -> None:
    honest, cheat = compute(judge, HONEST), compute(judge, SUBTLE)
    # Two rounded values differ by whole steps: a threshold that spares honest machines is near what cheats show.
    assert measure_both_rounded(judge, cheat) < 60 * measure_both_rounded(judge, honest)
    assert measure_both_rounded(judge, honest) > THRESHOLD, "honest machines would be accused"
    worst, least = (judge.measure(rows, [WINDOW])[WINDOW] for rows in (honest, cheat))
    assert worst.max() < THRESHOLD / 10
    assert least.min() > 3 * THRESHOLD
    assert least.min() > 300 * max(worst.max(), 1)


def test_without_the_threshold_there_is_no_choice_of_roundings(judge: Recomputed) -> None:
    aim = np.random.default_rng(3).standard_normal((WINDOW, WIDTH))
    window = slice(WINDOW, 2 * WINDOW)
    spent = spend(judge, window, aim, 0)
    assert spent.distance_ppb == 0
    own = judge.own[window]
    moved = spent.claimed != send(own, BF16)
    # Only what lies in the very middle between two codes may go either way.
    assert (np.abs(spent.claimed - own) == np.abs(send(own, BF16) - own))[moved].all()
    assert moved.mean() < 1e-3


def test_what_the_threshold_lets_through_is_less_than_rounding_itself(judge: Recomputed) -> None:
    """The whole of it, spent along one direction by someone who knows the verifier's rows."""
    window = slice(WINDOW, 2 * WINDOW)
    aim = np.random.default_rng(3).standard_normal((WINDOW, WIDTH))
    spent = spend(judge, window, aim, THRESHOLD)
    assert 0.9 * THRESHOLD < spent.distance_ppb <= THRESHOLD + 1
    scale = judge.scale[window.stop - 1]
    rounding = np.linalg.norm((send(judge.own, BF16)[window].astype(np.float64) - judge.own[window]) / scale)
    assert spent.moved_of_delta < rounding / np.linalg.norm(judge.delta[window] / scale)
    # Whoever pays with other weights than rounding has no such choice: it is beyond the threshold before it begins.
    assert judge.measure(compute(judge, SUBTLE), [WINDOW])[WINDOW].min() > THRESHOLD


def test_one_cheated_row_in_a_window_is_no_cheaper_to_hide(judge: Recomputed) -> None:
    mixed = judge.own.copy()
    mixed[::WINDOW] = compute(judge, 50 * SUBTLE)[::WINDOW]  # as 8-bit weights are
    assert judge.measure(mixed, [WINDOW])[WINDOW][::WINDOW].min() > THRESHOLD
