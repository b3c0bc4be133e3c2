"""How workers behave: what they compute of what they are paid for, and what they show when they are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

PERMILLE_WHOLE = 1_000


@dataclass(frozen=True, slots=True)
class Conduct:
    """A worker's way with a request.

    `bad_permille` of the windows are not what the model computes; they save `saves_permille` of their cost. A window
    that would fail is opened only with `opens_bad`, another one always.
    """

    bad_permille: int = 0
    saves_permille: int = 0
    opens_bad: bool = True

    def compute_cost(self, honest: int) -> int:
        """What the work costs whoever behaves so, if it costs `honest` nmyl to do it."""
        return honest - honest * self.bad_permille * self.saves_permille // PERMILLE_WHOLE**2


HONEST = Conduct()


class WorkerPolicy:
    """Decides on each request as it comes. The honest one; others override."""

    def choose(self, number: int) -> Conduct:
        """The conduct for the `number`th request that this worker serves."""
        return HONEST

    def choose_audit(self) -> Conduct:
        """The conduct in an audit. It is a window for an epoch's emission, so that whoever can computes it."""
        return HONEST


class IncapableWorker(WorkerPolicy):
    """Has no machine: it answers no audit, and would serve nothing."""

    def choose(self, number: int) -> Conduct:
        """Nothing is computed."""
        return Conduct(PERMILLE_WHOLE, PERMILLE_WHOLE, opens_bad=False)

    def choose_audit(self) -> Conduct:
        """Nothing is computed."""
        return self.choose(0)


class SteadyWorker(WorkerPolicy):
    """Behaves in one way all the time."""

    def __init__(self, conduct: Conduct) -> None:
        self._conduct = conduct

    def choose(self, number: int) -> Conduct:
        """Always the same."""
        return self._conduct


class RateWorker(WorkerPolicy):
    """Cheats on a share of the requests, spread evenly, and serves the others honestly."""

    def __init__(self, conduct: Conduct, rate_permille: int) -> None:
        self._conduct, self._rate_permille = conduct, rate_permille

    def choose(self, number: int) -> Conduct:
        """The conduct of its `number`th request."""
        before, after = (one * self._rate_permille // PERMILLE_WHOLE for one in (number, number + 1))
        return self._conduct if after > before else HONEST


class CautiousWorker(WorkerPolicy):
    """Misbehaves while it can afford to be caught once more, and serves honestly until the chain has forgotten."""

    def __init__(self, conduct: Conduct, can_afford: Callable[[], bool]) -> None:
        self._conduct, self._can_afford = conduct, can_afford

    def choose(self, number: int) -> Conduct:
        """What it can afford now."""
        return self._conduct if self._can_afford() else HONEST
