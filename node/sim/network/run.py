"""A simulated network from a seed: everything in its place, run to the end, and what came of it."""

from __future__ import annotations

import random
from collections.abc import Callable

from inference.moving import MovePolicy
from inference.routing import Prefer
from node.client.answer import Ask
from node.sim.network.chain import ListedWorkers
from node.sim.network.checks import RouteChecks, count_uncovered
from node.sim.network.churn import SimChurn
from node.sim.network.events import VirtualTime, run_virtually
from node.sim.network.gateways import SimGateway
from node.sim.network.placing import SimPlacing
from node.sim.network.report import NetworkOutcome, summarize
from node.sim.network.requests import RequestWorld, SimRequest
from node.sim.network.tally import Tally
from node.sim.network.workers import MODEL_ID, SimWorker, WorkerState
from node.sim.network.world import ANSWER_MAX, PRICE_MAX, WorldPlan, draw_lengths, draw_rig, draw_spot
from proto_specs.types.sampling import SamplingParams

WARM_S = 60.0
"""Gateways probe so long before the first request."""
SAMPLE_S = 5.0
LATE_S = 180.0
"""Requests may end so long after the last one came."""
GREEDY = SamplingParams(0, 0, 1_000, 0)

Told = Callable[[float], None]


class SimulatedNetwork:
    """The whole network. `told`, if any, is called every virtual minute with the share that is done."""

    def __init__(self, seed: int, plan: WorldPlan, told: Told | None = None) -> None:
        self.plan, self.tally = plan, Tally()
        self.virtual = VirtualTime()
        self._told = told
        self._rng = self._make_rng(seed, "requests")
        self.workers: dict[bytes, SimWorker] = {}
        self.chain = ListedWorkers(self.virtual)
        self.placing = SimPlacing(
            self.virtual, self._make_rng(seed, "placing"), plan, self.chain, self.workers, self.tally
        )
        rigs = self._make_rng(seed, "rigs")
        self.newcomers = [(rigs.randbytes(32), draw_rig(rigs, plan.liar_permille)) for _ in range(plan.workers)]
        self.gateways = [
            SimGateway(
                self.virtual, self._make_rng(seed, f"gateway {number}"), plan, draw_spot(rigs), self.chain, self.workers
            )
            for number in range(plan.gateways)
        ]
        self.churn = SimChurn(
            self.virtual, self._make_rng(seed, "churn"), plan, self.chain, self.workers, self.placing, self.tally
        )
        checks = RouteChecks(self.virtual, self.chain, self.workers, self.tally)
        self._world = RequestWorld(self.virtual, self._make_rng(seed, "ways"), self.workers, self.tally, checks)

    @staticmethod
    def _make_rng(seed: int, of: str) -> random.Random:
        return random.Random(f"{seed} {of}")

    def run(self) -> None:
        """To the end of the plan, and of the requests that are under way then."""
        for key, rig in self.newcomers:
            self.placing.add_first(key, rig)
        self.chain.start(self._note_block)
        for gateway in self.gateways:
            gateway.start()
        self.virtual.run(WARM_S)
        self.placing.start()
        self.churn.start(self._ask)
        self._sample()
        end_s = self.plan.minutes * 60.0
        at_s = WARM_S
        while at_s < end_s + LATE_S:
            at_s = min(at_s + 60.0, end_s + LATE_S)
            self.virtual.run(at_s)
            if self._told is not None:
                self._told(at_s / (end_s + LATE_S))
        self._check_end()

    def _note_block(self, height: int) -> None:
        for gateway in self.gateways:
            gateway.note_block(height)

    def _ask(self) -> None:
        rng = self._rng
        prompt, tokens = draw_lengths(rng)
        is_cheap = rng.randrange(1_000) < self.plan.cheap_permille
        prefer = Prefer.CHEAP if is_cheap else Prefer.FAST
        ask = Ask(MODEL_ID, (0,) * prompt, ANSWER_MAX, GREEDY, PRICE_MAX, prefer=prefer)
        self.tally.requests += 1
        request = SimRequest(self._world, rng.choice(self.gateways), rng.randbytes(32), ask, tokens)
        request.try_path()

    def _sample(self) -> None:
        self.virtual.after(SAMPLE_S, self._sample)
        serving = [one for one in self.workers.values() if one.state is WorkerState.SERVING]
        self.tally.uncovered_layer_s += count_uncovered(serving) * SAMPLE_S

    def _check_end(self) -> None:
        hours = -(-(self.plan.minutes * 60.0 + LATE_S) // 3_600)
        allowed = MovePolicy().moves_per_hour_max * hours
        if self.placing.most_moves() > allowed:
            moves = f"{self.placing.most_moves()} times in {self.plan.minutes} minutes"
            self.tally.violations.append(f"a worker moved {moves}: {allowed:.0f} allowed")


def simulate_network(seed: int, plan: WorldPlan, told: Told | None = None) -> NetworkOutcome:
    """Run a seed. The same seed and plan give the same outcome, to the byte."""
    network = SimulatedNetwork(seed, plan, told)
    run_virtually(network.virtual, network.run)
    return summarize(seed, plan, network.tally, network.workers.values())
