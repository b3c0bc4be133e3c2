"""What really happened: who serves, and what each stage did of each request. Only verifiers that look find it out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.runtime.inference.state import Challenge
from node.sim.economy.conduct import Conduct, WorkerPolicy
from node.sim.economy.parties import Party, SimAccount
from node.sim.economy.work import Lengths
from proto_specs.limits import WINDOW_POSITIONS


@dataclass(slots=True)
class SimulatedWorker:
    """A worker on chain and how it behaves. `served` counts its requests."""

    account: SimAccount
    party: Party
    policy: WorkerPolicy
    stage: int
    served: int = 0


@dataclass(slots=True)
class ServedWork:
    """The truth about what was settled: requests, and for each what each stage did of it."""

    requests: tuple[Lengths, ...]
    conducts: tuple[tuple[Conduct, ...], ...]

    def locate(self, challenge: Challenge) -> tuple[int, int]:
        """The request that was drawn, and a position in the window. Points are prompt positions first, then tokens."""
        if challenge.point is None:
            return 0, challenge.window * WINDOW_POSITIONS
        prompts = [one.prompt for one in self.requests]
        if challenge.point < sum(prompts):
            return _find(prompts, challenge.point)
        number, token = _find([one.answer for one in self.requests], challenge.point - sum(prompts))
        return number, prompts[number] - 1 + token


def _find(sizes: Sequence[int], point: int) -> tuple[int, int]:
    """The item that a point of them all falls on, and where in it."""
    for number, size in enumerate(sizes):
        if point < size:
            return number, point
        point -= size
    raise AssertionError("a point is below the sum of what is billed")
