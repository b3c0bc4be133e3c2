"""One order over one path: its rows through the stages, and its client's watch over them.

The rows are the model: chunks of the prompt follow each other through the stages, a token's row passes all of them and
leads to the next one. After a loss each run of new stages computes the positions so far from what its predecessor kept
(the client has the tokens for a first stage); then the next row passes all stages. The watch is the product's:
`StallWatch` with its pings, the timeouts of the transport, and `PathSight`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from inference.routing import CHUNK_ROWS
from node.client.routes import Route
from node.client.stalls import StallWatch
from node.client.transport import ACCEPT_TIMEOUT_S, PROGRESS_TIMEOUT_S
from node.sim.network.events import VirtualTime
from node.sim.network.gateways import SimGateway
from node.sim.network.workers import SimWorker, WorkerState
from node.sim.network.world import JITTER, Spot
from proto_specs.types.wire import FailureCode, Pong

LOOK_S_MIN = 0.05


class OrderOwner(Protocol):
    """The request that an order is made for."""

    @property
    def key(self) -> bytes:
        """Names it at the workers."""

    def note_token(self) -> bool:
        """A token came. Whether the answer goes on."""

    def note_signed(self) -> None:
        """The answer is whole, and signed."""

    def note_lost(self, stage: int, code: FailureCode) -> None:
        """A stage was lost, or refuses."""

    def note_alarm(self, what: str, *, is_true: bool) -> None:
        """A stage is taken for lost; whether it is."""

    def may_replace(self, stage: int) -> bool:
        """Whether others could take a stage's place."""


class SimOrder:
    """Fulfils `StageSink`. `tokens_before` came by earlier orders; the answer has `tokens` in all."""

    def __init__(
        self,
        virtual: VirtualTime,
        rng: random.Random,
        gateway: SimGateway,
        owner: OrderOwner,
        route: Route,
        stages: Sequence[SimWorker],
        tokens_before: int,
        tokens: int,
        positions: int,
        is_continuation: bool,
    ) -> None:
        self.route, self.stages = route, list(stages)
        self.is_over = False
        self.is_accepted = False
        self.rows_replayed = 0
        """Rows that new stages of a continuation compute once more, summed over these stages."""
        self._virtual, self._rng, self._gateway, self._owner = virtual, rng, gateway, owner
        self._total = route.load.prompt_tokens + tokens_before
        self._left = tokens - tokens_before
        self._positions, self._is_continuation = positions, is_continuation
        self._last = len(stages) - 1
        self._received = [0] * len(stages)
        self._computed = [0] * len(stages)
        self._replayed = [0] * len(stages)
        self._run_end: list[int] = [-1] * len(stages)
        """For a new stage, the last one of its run of new stages."""
        self._runs_left = 0
        self._ready: set[int] = set()
        self._accepted = 0
        self._adopts = [False] * len(stages)
        self._heard_s = virtual.now_s
        self._watch = StallWatch(virtual.now_s)
        self._sight = gateway.routes.watch(route)
        self._began_s = virtual.now_s

    # -- opening ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Send the order to every stage."""
        for stage, worker in enumerate(self.stages):
            worker.orders[self] = stage
            self._virtual.after(self._way(self._gateway.spot, worker.rig.spot), self._arrive, stage)
        self._virtual.after(ACCEPT_TIMEOUT_S, self._check_heard)
        self._look_later()

    def _arrive(self, stage: int) -> None:
        worker = self.stages[stage]
        if self.is_over or not worker.is_reachable:
            return
        refusal, self._adopts[stage] = worker.reserve(self._owner.key, self, self._positions)
        if refusal is not None:
            self._virtual.after(self._way(worker.rig.spot, self._gateway.spot), self._fail, stage, refusal)
            return
        dial_s = 0.0
        if stage < self._last:
            follower = self.stages[stage + 1]
            trips = 2.0 if follower.key in worker.known else 6.0
            worker.known.add(follower.key)
            dial_s = trips * self._way(worker.rig.spot, follower.rig.spot)
        self._virtual.after(dial_s, self._take_part, stage)

    def _take_part(self, stage: int) -> None:
        worker = self.stages[stage]
        if self.is_over or not worker.is_reachable:
            return
        self._virtual.after(self._way(worker.rig.spot, self._gateway.spot), self._hear_accepted, stage)
        self._ready.add(stage)
        if len(self._ready) == len(self.stages):
            self._begin()

    def _hear_accepted(self, stage: int) -> None:
        if self.is_over:
            return
        now_s = self._virtual.now_s
        self._heard()
        self._watch.accept(stage)
        self._gateway.memory.note_reached(self.stages[stage].key, now_s - self._began_s, now_s)
        self._accepted += 1
        if self._accepted == len(self.stages):
            self.is_accepted = True
            self._sight.note_accepted(now_s)

    # -- rows ---------------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Every stage takes part: the prompt, or what new stages need, or at once the next row."""
        stage = 0
        while stage <= self._last:
            if self._adopts[stage]:
                stage += 1
                continue
            end = stage
            while end < self._last and not self._adopts[end + 1]:
                end += 1
            for one in range(stage, end + 1):
                self._run_end[one] = end
            if self._is_continuation:
                self.rows_replayed += self._total * (end + 1 - stage)
            self._runs_left += 1
            self._feed(stage)
            stage = end + 1
        if not self._runs_left:
            self._step(0.0)

    def _feed(self, stage: int) -> None:
        """The positions so far, to the first of a run of new stages."""
        source = self.stages[stage - 1] if stage else None
        target = self.stages[stage]
        for at in range(0, self._total, CHUNK_ROWS):
            rows = min(CHUNK_ROWS, self._total - at)
            if source is None:
                way_s = self._way(self._gateway.spot, target.rig.spot)
                self._virtual.after(way_s, self._deliver, stage, rows, False)
            else:
                way_s = self._way(source.rig.spot, target.rig.spot)
                source.send(rows, way_s, self._deliver, stage, rows, False)

    def _deliver(self, stage: int, rows: int, is_decode: bool) -> None:
        if not self.is_over:
            self._received[stage] += rows
            self.stages[stage].take(self, stage, rows, is_decode)

    def note_computed(self, stage: int, rows: int, is_decode: bool) -> None:
        """See StageSink."""
        if self.is_over:
            return
        self._computed[stage] += rows
        if not is_decode:
            self._replayed[stage] += rows
            if stage < self._run_end[stage]:
                self._pass_on(stage, rows, False)
            elif self._replayed[stage] == self._total:
                self._end_run(stage)
        elif stage < self._last:
            self._pass_on(stage, rows, True)
        else:
            self._sample()

    def _pass_on(self, stage: int, rows: int, is_decode: bool) -> None:
        worker, follower = self.stages[stage], self.stages[stage + 1]
        way_s = self._way(worker.rig.spot, follower.rig.spot)
        worker.send(rows, way_s, self._deliver, stage + 1, rows, is_decode)

    def _end_run(self, stage: int) -> None:
        self._runs_left -= 1
        if self._runs_left:
            return
        if self._run_end[0] == self._last:
            self._sample()
        else:
            self._step(self._way(self.stages[stage].rig.spot, self.stages[0].rig.spot))

    def _step(self, delay_s: float) -> None:
        self._virtual.after(delay_s, self._deliver, 0, 1, True)

    def _sample(self) -> None:
        """The last stage has a token."""
        last, first = self.stages[self._last], self.stages[0]
        self._left -= 1
        self._virtual.after(self._way(last.rig.spot, self._gateway.spot), self._hear_token)
        if self._left > 0:
            self._step(0.0 if last is first else self._way(last.rig.spot, first.rig.spot))

    # -- the client's side --------------------------------------------------------------------------------------------

    def _hear_token(self) -> None:
        if self.is_over:
            return
        self._heard()
        self._sight.note_token(self._virtual.now_s)
        if not self._owner.note_token():
            far = max(self._gateway.spot.compute_way_s(one.rig.spot) for one in self.stages)
            self._virtual.after(2.0 * far, self._sign)

    def _sign(self) -> None:
        if self.is_over:
            return
        self.is_over = True
        self._sight.note_completed(self._virtual.now_s)
        for worker in self.stages:
            worker.leave_order(self._owner.key, self, None)
        self._owner.note_signed()

    def _heard(self) -> None:
        self._heard_s = self._virtual.now_s
        self._watch.note_moved(self._virtual.now_s)

    def _look_later(self) -> None:
        delay_s = max(LOOK_S_MIN, self._watch.get_next_look(self._virtual.now_s))
        self._virtual.after(delay_s, self._look)

    def _look(self) -> None:
        if self.is_over:
            return
        now_s = self._virtual.now_s
        for stage in self._watch.list_due(now_s):
            self._virtual.after(self._way(self._gateway.spot, self.stages[stage].rig.spot), self._ping, stage)
        stalled = self._watch.find_stalled(now_s)
        if stalled is not None and self._owner.may_replace(stalled[0]):
            self._lose(stalled[0], stalled[1])
            return
        self._look_later()

    def _ping(self, stage: int) -> None:
        worker = self.stages[stage]
        if not self.is_over and worker.is_reachable:
            figures = (self._received[stage], self._computed[stage], worker.steps, worker.pass_ms)
            pong = Pong(self._owner.key, 0, *figures)
            self._virtual.after(self._way(worker.rig.spot, self._gateway.spot), self._pong, stage, pong)

    def _pong(self, stage: int, pong: Pong) -> None:
        if not self.is_over:
            self._watch.note_pong(stage, pong, self._virtual.now_s)

    def _check_heard(self) -> None:
        if self.is_over:
            return
        timeout_s = PROGRESS_TIMEOUT_S if self.is_accepted else ACCEPT_TIMEOUT_S
        left_s = self._heard_s + timeout_s - self._virtual.now_s
        if left_s > 0:
            self._virtual.after(left_s, self._check_heard)
            return
        silent = [at for at, one in enumerate(self.stages) if one.state in (WorkerState.SILENT, WorkerState.STUCK)]
        self._lose(silent[0] if silent else self._last, "nothing comes")

    def _lose(self, stage: int, what: str) -> None:
        """The client finds a stage lost; it may be wrong."""
        self._owner.note_alarm(what, is_true=self.stages[stage].state not in (WorkerState.SERVING, WorkerState.LEAVING))
        self._fail(stage, FailureCode.NEIGHBOUR_LOST)

    def note_reset(self, stage: int) -> None:
        """See StageSink."""
        way_s = self._way(self.stages[stage].rig.spot, self._gateway.spot)
        self._virtual.after(way_s, self._fail, stage, FailureCode.NEIGHBOUR_LOST)

    def _fail(self, stage: int, code: FailureCode) -> None:
        """The order is over: the others keep what they have for another one, once all take part."""
        if self.is_over:
            return
        self.is_over = True
        is_moving = self.is_accepted or self._is_continuation
        told = FailureCode.MOVED if is_moving else FailureCode.CANCELLED
        for worker in self.stages:
            worker.leave_order(self._owner.key, self, told)
        self._owner.note_lost(stage, code)

    def _way(self, here: Spot, there: Spot) -> float:
        return here.compute_way_s(there) * (1.0 + JITTER * self._rng.expovariate(1.0))
