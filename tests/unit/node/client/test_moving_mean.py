"""A mean is steady against noise and a lone outlier, and follows a change."""

from __future__ import annotations

import random

import pytest

from node.client.moving_mean import MovingMean


def test_the_first_samples_are_averaged() -> None:
    mean = MovingMean()
    assert mean.get() is None
    for sample in (10.0, 14.0, 12.0):
        mean.add(sample)
    assert mean.get() == pytest.approx(12.0)


def test_noise_hardly_moves_it_nor_one_outlier() -> None:
    rng, mean = random.Random(1), MovingMean()
    for _ in range(200):
        mean.add(100 * rng.uniform(0.8, 1.2))
        assert mean.samples < 10 or 90 < mean.value < 110
    mean.add(300)
    mean.add(100)
    assert mean.value < 125


@pytest.mark.parametrize("after", [300.0, 20.0])
def test_a_change_is_believed_when_it_is_seen_again(after: float) -> None:
    mean = MovingMean()
    for _ in range(100):
        mean.add(100)
    for _ in range(5):
        mean.add(after)
    assert abs(mean.value - after) < abs(100 - after) / 2


def test_outliers_on_both_sides_are_noise() -> None:
    mean = MovingMean()
    for _ in range(100):
        mean.add(100)
    for _ in range(10):
        mean.add(250)
        mean.add(40)
    assert 80 < mean.value < 160
