"""One request over as many orders as it takes: what `RequestAttempts` does, with the product's choices, as events.

Which path, which one after a loss, whom to leave out and for how long, how often to try: `Routes`, `WorkerMemory` and
the limits of `node/client/attempt.py`. Signatures and payments are left out; what they do to an order's way is not.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from inference.routing import NoPathError
from node.client.answer import Ask
from node.client.attempt import PATHS_MAX
from node.client.routes import Route
from node.client.so_far import EPOCH_MAX
from node.client.transport import DIAL_TIMEOUT_S
from node.sim.network.checks import RouteChecks
from node.sim.network.events import VirtualTime, finish
from node.sim.network.gateways import SimGateway
from node.sim.network.orders import SimOrder
from node.sim.network.tally import Tally
from node.sim.network.workers import SimWorker, WorkerState
from proto_specs.types.request import PathStage, compute_positions
from proto_specs.types.wire import FailureCode


@dataclass(frozen=True, slots=True)
class RequestWorld:
    """What requests are made in."""

    virtual: VirtualTime
    rng: random.Random
    workers: Mapping[bytes, SimWorker]
    tally: Tally
    checks: RouteChecks


class SimRequest:
    """Fulfils `OrderOwner`. `tokens` are those that the answer will have, which its client does not know."""

    def __init__(self, world: RequestWorld, gateway: SimGateway, key: bytes, ask: Ask, tokens: int) -> None:
        self.key = key
        self._world, self._gateway, self._ask, self._tokens = world, gateway, ask, tokens
        self._began_s = world.virtual.now_s
        self._first_s = 0.0
        self._last_s = 0.0
        self._done = 0
        self._path: tuple[PathStage, ...] = ()
        self._excluded: set[bytes] = set()
        self._order: SimOrder | None = None
        self._orders = 0
        self._tried = 0
        self._done_before = 0
        self._paused_s: float | None = None
        """Since when its reader waits for a token after a loss."""

    def try_path(self) -> None:
        """Choose a path, and connect its stages."""
        if self._tried >= PATHS_MAX or self._orders > EPOCH_MAX:
            self._give_up("paths")
            return
        routes, excluded = self._gateway.routes, self._excluded
        try:
            if self._path:
                coroutine = routes.choose_continuation(self._ask, self._path, excluded, excluded)
            else:
                coroutine = routes.choose(self._ask, excluded)
            route = finish(coroutine)
        except NoPathError:
            self._give_up("no path")
            return
        kept = {one.worker for one in self._path} - excluded
        self._world.checks.check(self._gateway, self._ask, route, excluded, kept)
        self._connect(route)

    def _connect(self, route: Route) -> None:
        """All stages are dialled at once; the first that fails ends it."""
        virtual, slowest_s, failed = self._world.virtual, 0.0, (DIAL_TIMEOUT_S + 1, -1)
        for stage, entry in enumerate(route.workers):
            worker = self._world.workers.get(entry.worker)
            round_trip_s = 0.1 if worker is None else 2.0 * self._gateway.spot.compute_way_s(worker.rig.spot)
            slowest_s = max(slowest_s, round_trip_s)
            if worker is None or not worker.is_reachable:
                is_silent = worker is not None and worker.state is WorkerState.SILENT
                failed = min(failed, (DIAL_TIMEOUT_S if is_silent else round_trip_s, stage))
        if failed[1] >= 0:
            virtual.after(failed[0], self._note_unreachable, route, failed[1])
        else:
            virtual.after(slowest_s, self._order_from, route)

    def _note_unreachable(self, route: Route, stage: int) -> None:
        self._world.tally.count("dials that failed")
        self._exclude(route.workers[stage].worker)
        self._go_on()

    def _order_from(self, route: Route) -> None:
        world, ask = self._world, self._ask
        stages = [world.workers[one.worker] for one in route.workers]
        self._orders += 1
        world.tally.note_order(self._gateway, stages, world.virtual.now_s)
        self._order = SimOrder(
            world.virtual,
            world.rng,
            self._gateway,
            self,
            route,
            stages,
            self._done,
            self._tokens,
            compute_positions(len(ask.prompt), ask.tokens_max),
            bool(self._path),
        )
        for stage, worker in enumerate(stages):
            if not worker.is_reachable:  # it fell while the others were dialled
                self._note_fallen(stage, worker)
        self._order.open()

    def _note_fallen(self, stage: int, worker: SimWorker) -> None:
        assert self._order is not None, "it was just made"
        if worker.state is not WorkerState.SILENT:
            self._order.note_reset(stage)

    def note_token(self) -> bool:
        """See OrderOwner."""
        assert self._order is not None, "tokens come by an order"
        now_s, tally = self._world.virtual.now_s, self._world.tally
        self._done += 1
        if self._done == 1:
            self._first_s = now_s
            tally.note_first(now_s - self._began_s)
        if self._paused_s is not None:
            tally.note_pause(now_s - self._paused_s)
            self._paused_s = None
        tally.note_token(self._order.stages, len(self._ask.prompt) if self._done == 1 else 0)
        self._last_s = now_s
        return self._done < self._tokens

    def note_signed(self) -> None:
        """See OrderOwner."""
        assert self._order is not None, "it was signed"
        seconds = self._last_s - self._first_s
        self._world.tally.note_replayed(self._order.rows_replayed, is_wasted=False)
        self._world.tally.note_complete(self._orders, (self._done - 1) / seconds if seconds > 0 else None)

    def note_lost(self, stage: int, code: FailureCode) -> None:
        """See OrderOwner."""
        order, tally = self._order, self._world.tally
        assert order is not None, "it was lost"
        if self._done == self._tokens:  # every token is here; the stages settle what is signed
            self.note_signed()
            return
        tally.count(f"orders ended by {code.name}")
        # Rows that an order computed anew, and that no token came of.
        tally.note_replayed(order.rows_replayed, is_wasted=self._done == self._done_before)
        if order.is_accepted:
            self._path = order.route.path
            if self._done and self._paused_s is None:
                self._paused_s = self._last_s
        self._exclude(order.route.workers[stage].worker)
        self._go_on()

    def note_alarm(self, what: str, *, is_true: bool) -> None:
        """See OrderOwner."""
        when = "after" if self._done else "before"
        self._world.tally.count(f"{'alarm' if is_true else 'false alarm'}: {what}, {when} the first token")

    def may_replace(self, stage: int) -> bool:
        """See OrderOwner."""
        assert self._order is not None, "its order asks"
        excluded = self._excluded | {self._order.route.workers[stage].worker}
        return self._gateway.routes.has_path(self._ask, excluded)

    def _exclude(self, worker: bytes) -> None:
        self._gateway.memory.note_failed(worker, self._world.virtual.now_s)
        self._gateway.hurry(worker)
        self._excluded.add(worker)

    def _go_on(self) -> None:
        self._tried = 1 if self._done > self._done_before else self._tried + 1
        self._done_before = self._done
        self.try_path()

    def _give_up(self, why: str) -> None:
        self._world.tally.note_failed(why, self._done)
