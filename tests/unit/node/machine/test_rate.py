"""Token buckets: a burst, then the rate; on credit, within a wait or at once; so many keys are remembered."""

from __future__ import annotations

import pytest

from node.machine.rate import RateLimit


def test_credit_is_paid_back_at_the_rate() -> None:
    rate = RateLimit(per_s=2.0, burst=4.0)
    assert rate.take("a", 4, 10.0) == 0.0
    assert rate.take("a", 3, 10.0) == 1.5
    assert rate.take("b", 4, 10.0) == 0.0, "a key pays for itself"
    assert rate.take("a", 1, 11.0) == 1.0
    assert rate.take("a", 4, 1_000.0) == 0.0, "no more than a burst is saved up"
    assert rate.take("a", 1, 1_000.0) == 0.5


def test_a_wait_too_long_takes_nothing() -> None:
    rate = RateLimit(per_s=2.0, burst=4.0)
    assert rate.take_within("a", 4, 10.0, wait_s_max=1.0) == 0.0
    assert rate.take_within("a", 2, 10.0, wait_s_max=1.0) == 1.0
    assert rate.take_within("a", 1, 10.0, wait_s_max=1.0) is None
    assert rate.take_within("a", 1, 10.5, wait_s_max=1.0) == 1.0


def test_at_once_or_not_at_all() -> None:
    rate = RateLimit(per_s=2.0, burst=4.0)
    assert rate.take_at_once("a", 3, 10.0) == 0.0
    assert rate.take_at_once("a", 3, 10.0) == 1.0
    assert rate.take_at_once("a", 1, 10.0) == 0.0, "the refused one took nothing"
    assert rate.take_at_once("a", 3, 11.4) == pytest.approx(0.1)
    assert rate.take_at_once("a", 3, 11.5) == 0.0


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    rate = RateLimit(per_s=2.0, burst=4.0)
    assert rate.take_at_once("a", 4, 10.0) == 0.0
    assert rate.take_at_once("a", 1, 5.0) == 0.5


def test_the_keys_used_last_are_remembered() -> None:
    rate = RateLimit(per_s=1.0, burst=1.0, keys_max=3)
    for key in ("a", "b", "c", "a"):
        rate.take(key, 1, 0.0)
    rate.take("d", 1, 0.0)
    assert rate.take_at_once("a", 1, 0.0) > 0.0
    assert rate.take_at_once("b", 1, 0.0) == 0.0, "forgotten"
    rate.forget(["a"])
    assert rate.take_at_once("a", 1, 0.0) == 0.0
