"""Names and durations of a round's three timeouts. Knows no clock: the shell counts the milliseconds."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Step(enum.IntEnum):
    """The step of a process within a round (the paper's step_p), in order of time."""

    PROPOSE = 1
    PREVOTE = 2
    PRECOMMIT = 3


@dataclass(frozen=True, slots=True)
class Timeout:
    """One timeout of one round; the scheduled and the elapsed timeout are equal values."""

    step: Step
    height: int
    round: int


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Durations in milliseconds: a step's timeout in round r lasts `<step>_ms + r * <step>_delta_ms`.

    Deltas must be positive: termination rests on rounds that grow without bound (paper, section 4).
    """

    propose_ms: int
    propose_delta_ms: int
    prevote_ms: int
    prevote_delta_ms: int
    precommit_ms: int
    precommit_delta_ms: int

    def __post_init__(self) -> None:
        assert min(self.propose_ms, self.prevote_ms, self.precommit_ms) >= 0, "durations are not negative"
        assert min(self.propose_delta_ms, self.prevote_delta_ms, self.precommit_delta_ms) > 0, "timeouts must grow"

    def compute_delay_ms(self, step: Step, round_: int) -> int:
        """How long `step` may last in `round_`, in milliseconds."""
        match step:
            case Step.PROPOSE:
                return self.propose_ms + round_ * self.propose_delta_ms
            case Step.PREVOTE:
                return self.prevote_ms + round_ * self.prevote_delta_ms
            case Step.PRECOMMIT:
                return self.precommit_ms + round_ * self.precommit_delta_ms
