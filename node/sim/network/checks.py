"""What must hold of every choice: no worker known to be dead while a live path exists. A second opinion on routing."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from node.client.answer import Ask
from node.client.chain_view import WorkerEntry
from node.client.routes import Route
from node.sim.network.chain import ListedWorkers
from node.sim.network.events import VirtualTime
from node.sim.network.gateways import SimGateway
from node.sim.network.tally import Tally
from node.sim.network.workers import SimWorker
from node.sim.network.world import LAYERS

VIOLATIONS_MAX = 20


class RouteChecks:
    """Looks at each route that was chosen."""

    def __init__(
        self, virtual: VirtualTime, chain: ListedWorkers, workers: Mapping[bytes, SimWorker], tally: Tally
    ) -> None:
        self._virtual, self._chain, self._workers, self._tally = virtual, chain, workers, tally

    def check(
        self, gateway: SimGateway, ask: Ask, route: Route, excluded: Collection[bytes], kept: Collection[bytes]
    ) -> None:
        """Note a violation if a worker that the gateway leaves out is on a route, and need not be.

        A stage that is kept for its KV memory counts only when it is dead indeed.
        """
        now_s, memory = self._virtual.now_s, gateway.memory
        bad = [
            one.worker
            for one in route.workers
            if one.worker in excluded
            or (memory.is_avoided(one.worker, now_s) and (one.worker not in kept or not self._is_up(one.worker)))
        ]
        if not bad:
            return
        live = [
            one
            for one in self._chain.list_now()
            if one.is_active
            and one.worker not in excluded
            and max(one.prefill_price, one.decode_price) <= ask.max_price
            and not memory.is_avoided(one.worker, now_s)
        ]
        self._tally.count("routes over workers left out")
        if has_way(live) and len(self._tally.violations) < VIOLATIONS_MAX:
            names = ", ".join(one.hex()[:8] for one in bad)
            self._tally.violations.append(f"{now_s:.1f} s: a route over {names}, known to fail, with a live path there")

    def _is_up(self, worker: bytes) -> bool:
        found = self._workers.get(worker)
        return found is not None and found.is_reachable


def has_way(entries: Collection[WorkerEntry]) -> bool:
    """Whether ranges join up from the first layer to the last."""
    reached = [True] + [False] * LAYERS
    for one in sorted(entries, key=lambda entry: entry.start):
        reached[one.end] = reached[one.end] or reached[one.start]
    return reached[LAYERS]


def count_uncovered(workers: Collection[SimWorker]) -> int:
    """Layers that none of these workers serves now."""
    served = [False] * LAYERS
    for one in workers:
        served[one.start : one.end] = [True] * (one.end - one.start)
    return served.count(False)
