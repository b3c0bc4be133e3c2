"""What really happened: who serves, and what each stage did of each request. Only verifiers that look find it out."""

from __future__ import annotations

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
        """The request that was drawn, and a position in the window."""
        if challenge.point is None:
            return 0, challenge.window * WINDOW_POSITIONS
        left = challenge.point
        for number, one in enumerate(self.requests):
            if left < one.positions:
                return number, left
            left -= one.positions
        raise AssertionError("a point is below the sum of all positions")
