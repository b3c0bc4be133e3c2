"""The fitted tail finds known tails again."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.verify.tail import fit_tail


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.2])
def test_a_known_tail_is_found(shape: float) -> None:
    uniform = np.random.default_rng(5).random(200_000)
    values = (uniform**-shape - 1) / shape if shape else -np.log(uniform)
    tail = fit_tail(values, 4_000)
    assert abs(tail.shape - shape) < 0.08
    beyond = float(np.quantile(values, 1 - 1e-4))
    assert 0.5e-4 < tail.exceeds(beyond) < 2e-4
    assert tail.share == pytest.approx(0.02)


def test_beyond_the_end_of_a_bounded_tail_there_is_nothing() -> None:
    values = np.random.default_rng(6).random(50_000)
    assert fit_tail(values, 1_000).exceeds(1.5) == 0.0
