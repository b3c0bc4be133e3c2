"""Durations of timeouts by step and round."""

from __future__ import annotations

import pytest

from consensus.bft.timeouts import Step, Timeouts


@pytest.mark.parametrize(
    ("step", "round_", "delay_ms"),
    [
        (Step.PROPOSE, 0, 1000),
        (Step.PROPOSE, 3, 1030),
        (Step.PREVOTE, 0, 200),
        (Step.PREVOTE, 3, 215),
        (Step.PRECOMMIT, 0, 70),
        (Step.PRECOMMIT, 3, 76),
    ],
)
def test_delay_grows_with_the_round(step: Step, round_: int, delay_ms: int) -> None:
    assert Timeouts(1000, 10, 200, 5, 70, 2).compute_delay_ms(step, round_) == delay_ms


@pytest.mark.parametrize("at", range(6))
def test_timeouts_must_grow_and_not_be_negative(at: int) -> None:
    values = [1, 1, 1, 1, 1, 1]
    values[at] = -1 if at % 2 == 0 else 0
    with pytest.raises(AssertionError):
        Timeouts(*values)
