"""How simulated workers find and keep their ranges: `RangeNetwork` and `should_move` of the product, on virtual time.

A worker sees what `look_around` shows it: all whom the chain lists, and the reports of the `PROBES_MAX` that its key
draws, those who do not answer left out. The order of steps is that of `Placer`: fetch beside serving, look again, be
away on chain, wait until nothing runs, load.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import MutableMapping

from inference.moving import Advice, Intent, Look, MovePolicy, should_move
from inference.placement import HeldRange, Machine, RangeBytes, RangeNetwork
from node.sim.network.chain import ListedWorkers
from node.sim.network.events import VirtualTime
from node.sim.network.tally import Tally
from node.sim.network.workers import BOND, SimWorker, WorkerState
from node.sim.network.world import DOWN_MBIT, END_BYTES, LAYER_BYTES, LAYERS, MODEL, Rig, WorldPlan
from node.worker.placing import CHOICES_MAX, DRAIN_S_MAX, LOAD_BYTES_PER_S, LOAD_S_BASE, estimate_reload
from node.worker.surroundings import PROBES_MAX, make_held

IDLE_POLL_S = 2.0
BOND_PER_LAYER = BOND // LAYERS
DOWN_BYTES_S = DOWN_MBIT * 125_000


class SimPlacing:
    """Everybody's placing: who looks when, and what follows."""

    def __init__(
        self,
        virtual: VirtualTime,
        rng: random.Random,
        plan: WorldPlan,
        chain: ListedWorkers,
        workers: MutableMapping[bytes, SimWorker],
        tally: Tally,
    ) -> None:
        self._virtual, self._rng, self._plan = virtual, rng, plan
        self._chain, self._workers, self._tally = chain, workers, tally
        self._intents: dict[bytes, Intent] = {}
        self._moves: dict[bytes, int] = {}
        self._version = -1
        self._held: dict[bytes, tuple[HeldRange, HeldRange]] = {}

    def add_first(self, key: bytes, rig: Rig) -> None:
        """A worker that is there from the beginning, after those that were added before it."""
        start, end = self._choose(key, rig, frozenset())
        worker = SimWorker(self._virtual, self._rng, key, rig, start, end)
        self._workers[key] = worker
        self._chain.announce(worker.describe(is_active=True))
        self._chain.make_first()

    def start(self) -> None:
        """Look from now on, everybody in its own time."""
        for key in list(self._workers):
            self._virtual.after(self._rng.uniform(0.0, self._plan.look_s), self._look, key)

    def join(self, key: bytes, rig: Rig) -> None:
        """A machine comes: it chooses, fetches, and looks again until the choice stands."""
        self._settle(key, rig, (0, 0), frozenset(), 0)

    def most_moves(self) -> int:
        """Of any worker."""
        return max(self._moves.values(), default=0)

    def _settle(self, key: bytes, rig: Rig, place: tuple[int, int], stored: frozenset[int], choices: int) -> None:
        chosen = self._choose(key, rig, stored) if choices < CHOICES_MAX else place
        if chosen != place:
            count = count_missing(stored).count(*chosen)
            stored |= frozenset(range(*chosen))
            self._virtual.after(count / DOWN_BYTES_S, self._settle, key, rig, chosen, stored, choices + 1)
            return
        load_s = LOAD_S_BASE + MODEL.weights.count(*chosen) / LOAD_BYTES_PER_S
        self._virtual.after(load_s, self._register, key, rig, chosen, stored)

    def _register(self, key: bytes, rig: Rig, place: tuple[int, int], stored: frozenset[int]) -> None:
        worker = SimWorker(self._virtual, self._rng, key, rig, *place)
        worker.stored = set(stored)
        self._workers[key] = worker
        self._chain.announce(worker.describe(is_active=True))
        self._virtual.after(self._plan.look_s, self._look, key)
        self._tally.count("joined")

    def _choose(self, key: bytes, rig: Rig, stored: frozenset[int]) -> tuple[int, int]:
        worth = RangeNetwork(MODEL, make_machine(rig, stored, 0), self._look_around(key)).choose()
        return worth.start, worth.end

    def _look_around(self, key: bytes) -> list[HeldRange]:
        if self._version != self._chain.version:
            self._version = self._chain.version
            lie = self._plan.lie_factor
            self._held = {
                one.worker: (make_held(one, self._workers[one.worker].report(lie)), make_held(one, None))
                for one in self._chain.list_now()
                if one.is_active and one.worker in self._workers
            }
        others = [one for one in self._held if one != key]
        asked = set(sorted(others, key=lambda one: hashlib.blake2b(key + one).digest())[:PROBES_MAX])
        seen = []
        for one in others:
            if one not in asked:
                seen.append(self._held[one][1])
            elif self._workers[one].state is not WorkerState.LEAVING and self._workers[one].is_reachable:
                seen.append(self._held[one][0])
        return seen

    def _look(self, key: bytes) -> None:
        worker = self._workers.get(key)
        if worker is None or worker.state is WorkerState.DEAD:
            return
        self._virtual.after(self._plan.look_s, self._look, key)
        if worker.state is not WorkerState.SERVING:
            return
        advice, target = self._advise(worker)
        self._tally.count(f"looks: {advice.name}")
        if advice not in (Advice.DRAIN, Advice.MOVE):
            return
        count = count_missing(frozenset(worker.stored)).count(*target)
        worker.stored |= set(range(*target))
        self._tally.note_fetched(key, count, self._virtual.now_s)
        self._virtual.after(count / DOWN_BYTES_S, self._look_again, worker, target)

    def _advise(self, worker: SimWorker) -> tuple[Advice, tuple[int, int]]:
        machine = make_machine(worker.rig, frozenset(worker.stored), worker.rig.layer_us)
        network = RangeNetwork(MODEL, machine, self._look_around(worker.key))
        look = Look(network, worker.start, worker.end, len(worker.kv), self._virtual.now_s)
        intent = self._intents.get(worker.key, Intent())
        advice, best, intent = should_move(look, worker.key, intent, estimate_reload, MovePolicy())
        self._intents[worker.key] = intent
        return advice, (best.start, best.end)

    def _look_again(self, worker: SimWorker, target: tuple[int, int]) -> None:
        if worker.state is not WorkerState.SERVING:
            return
        advice, again = self._advise(worker)
        if advice not in (Advice.DRAIN, Advice.MOVE) or again != target:
            self._tally.count("moves called off after fetching")
            return
        worker.state = WorkerState.LEAVING
        self._chain.announce(worker.describe(is_active=False))
        self._wait_idle(worker, target, self._virtual.now_s + DRAIN_S_MAX)

    def _wait_idle(self, worker: SimWorker, target: tuple[int, int], until_s: float) -> None:
        if worker.state is not WorkerState.LEAVING:
            return
        if worker.kv and self._virtual.now_s < until_s:
            self._virtual.after(IDLE_POLL_S, self._wait_idle, worker, target, until_s)
        elif worker.kv:
            self._come_back(worker)
        else:
            worker.state = WorkerState.LOADING
            load_s = LOAD_S_BASE + MODEL.weights.count(*target) / LOAD_BYTES_PER_S
            self._virtual.after(load_s, self._end_move, worker, target)

    def _end_move(self, worker: SimWorker, target: tuple[int, int]) -> None:
        if worker.state is not WorkerState.LOADING:
            return
        worker.start, worker.end = target
        self._intents[worker.key] = self._intents[worker.key].note_moved(self._virtual.now_s)
        self._moves[worker.key] = self._moves.get(worker.key, 0) + 1
        self._tally.count("moves")
        self._come_back(worker)

    def _come_back(self, worker: SimWorker) -> None:
        worker.come_back()
        self._chain.announce(worker.describe(is_active=True))


def make_machine(rig: Rig, stored: frozenset[int], layer_us: int) -> Machine:
    """A rig as placement sees it; `layer_us` 0: it has measured nothing yet."""
    return Machine(
        memory_bytes=rig.memory_bytes,
        kv_positions=rig.kv_positions,
        layer_us=layer_us,
        price=rig.price,
        gross_max=BOND,
        bond=BOND,
        bond_per_layer=BOND_PER_LAYER,
        missing=count_missing(stored),
    )


def count_missing(stored: frozenset[int]) -> RangeBytes:
    """Bytes of the units that are not stored; both ends count as stored with their layers."""
    layers = tuple(0 if one in stored else LAYER_BYTES for one in range(LAYERS))
    return RangeBytes(layers, 0 if 0 in stored else END_BYTES, 0 if LAYERS - 1 in stored else END_BYTES)
