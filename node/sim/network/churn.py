"""What befalls a simulated network: who asks, who leaves and how, who comes, and what fails together. The model."""

from __future__ import annotations

import random
from collections.abc import Callable, MutableMapping

from node.sim.network.chain import ABSENT_S, ListedWorkers
from node.sim.network.events import VirtualTime
from node.sim.network.placing import SimPlacing
from node.sim.network.tally import Tally
from node.sim.network.workers import SimWorker, WorkerState
from node.sim.network.world import REGIONS, WorldPlan, draw_rig

GRACE_S = 60.0
"""How long who stops as SIGTERM does lets requests run: the default of `worker run --grace`."""
HOUR_S = 3_600.0


class SimChurn:
    """Draws events and carries them out."""

    def __init__(
        self,
        virtual: VirtualTime,
        rng: random.Random,
        plan: WorldPlan,
        chain: ListedWorkers,
        workers: MutableMapping[bytes, SimWorker],
        placing: SimPlacing,
        tally: Tally,
    ) -> None:
        self._virtual, self._rng, self._plan = virtual, rng, plan
        self._chain, self._workers, self._placing, self._tally = chain, workers, placing, tally

    def start(self, ask: Callable[[], None]) -> None:
        """Leave, come and ask from now on; `ask` makes a request."""
        self._arrive_later(ask)
        if self._plan.leave_permille:
            self._later(self._leave_rate_s(), self._leave_one)
            self._later(self._leave_rate_s(), self._join_one)
        if self._plan.outage_every_s:
            self._virtual.after(self._plan.outage_every_s / 2, self._strike)

    def _leave_rate_s(self) -> float:
        return self._plan.workers * self._plan.leave_permille / 1_000 / HOUR_S

    def _later(self, rate_s: float, then: Callable[[], None]) -> None:
        self._virtual.after(self._rng.expovariate(rate_s), then)

    def _arrive_later(self, ask: Callable[[], None]) -> None:
        """Arrivals at the highest rate, thinned outside of the flash."""
        plan, whole_s = self._plan, self._plan.minutes * 60.0
        delay_s = self._rng.expovariate(plan.requests_per_s * plan.flash_factor)
        at_s = self._virtual.now_s + delay_s
        is_flash = whole_s / 3 <= at_s < whole_s / 2
        is_real = is_flash or self._rng.random() * plan.flash_factor < 1.0
        self._virtual.after(delay_s, self._arrive, ask, is_real)

    def _arrive(self, ask: Callable[[], None], is_real: bool) -> None:
        if self._virtual.now_s < self._plan.minutes * 60.0:
            self._arrive_later(ask)
            if is_real:
                ask()

    def _list_serving(self) -> list[SimWorker]:
        return [one for one in self._workers.values() if one.state is WorkerState.SERVING]

    def _leave_one(self) -> None:
        self._later(self._leave_rate_s(), self._leave_one)
        serving = self._list_serving()
        if not serving:
            return
        worker, draw = self._rng.choice(serving), self._rng.randrange(1_000)
        self._tally.count("left")
        if draw < self._plan.drain_permille:
            self._drain(worker)
        elif draw < self._plan.drain_permille + self._plan.hang_permille:
            self.let_fall(worker, WorkerState.STUCK)
        else:
            self.let_fall(worker, WorkerState.DEAD if draw % 2 else WorkerState.SILENT)

    def _join_one(self) -> None:
        self._later(self._leave_rate_s(), self._join_one)
        self._placing.join(self._rng.randbytes(32), draw_rig(self._rng, self._plan.liar_permille))

    def _drain(self, worker: SimWorker) -> None:
        worker.state = WorkerState.LEAVING
        self._chain.announce(worker.describe(is_active=False, is_leaving=True))
        self._end_drain(worker, self._virtual.now_s + GRACE_S)

    def _end_drain(self, worker: SimWorker, until_s: float) -> None:
        if worker.state is not WorkerState.LEAVING:
            return
        if worker.kv and self._virtual.now_s < until_s:
            self._virtual.after(1.0, self._end_drain, worker, until_s)
            return
        self.let_fall(worker, WorkerState.DEAD)

    def let_fall(self, worker: SimWorker, state: WorkerState) -> None:
        """A worker falls, now; the chain hears of it later."""
        self._tally.count(f"fell: {state.value}")
        for order, stage in worker.fall(state):
            if state is WorkerState.DEAD:
                order.note_reset(stage)
            self._tally.note_survivors([one for one in order.stages if one is not worker], self._virtual.now_s)
        self._virtual.after(ABSENT_S, self._mark_absent, worker, state)

    def _mark_absent(self, worker: SimWorker, state: WorkerState) -> None:
        if worker.state is not state:
            return
        if state is WorkerState.STUCK:  # it answers probes: its operator finds out, and ends it
            self.let_fall(worker, WorkerState.DEAD)
            return
        self._chain.announce(worker.describe(is_active=False, is_absent=True))

    def _strike(self) -> None:
        """A region's line fails: a part of its workers is silent, and comes back."""
        self._virtual.after(self._plan.outage_every_s, self._strike)
        region = self._rng.randrange(len(REGIONS))
        self._tally.count("outages")
        for worker in self._list_serving():
            if worker.rig.spot.region == region and self._rng.randrange(1_000) < self._plan.outage_permille:
                self.let_fall(worker, WorkerState.SILENT)
                self._virtual.after(self._plan.outage_s, self._mend, worker)

    def _mend(self, worker: SimWorker) -> None:
        worker.come_back()
        self._chain.announce(worker.describe(is_active=True))
