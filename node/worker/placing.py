"""A worker without layers of its own choosing: finds the range that the network lacks most, fetches it, and moves.

It moves while nothing runs: it fetches beside its serving, looks again, says on chain that it is away, lets what runs
end, and takes the new range under the same key and bond. What it decides is in `inference/placement.py` and
`inference/moving.py`, which see no network; here is what they see, and what is done about it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import trio

from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.inference import queries
from inference.footprint import measure_model, measure_units
from inference.model.graph.shard import ShardRange
from inference.model.store import ShardStore
from inference.moving import Advice, Intent, Look, MovePolicy, ReloadTime, choose_among_twins, should_move
from inference.placement import HeldRange, Machine, ModelBytes, RangeNetwork, Worth
from node.client.account import SigningAccount
from node.client.chain_view import WorkerEntry
from node.p2p.host import P2PHost, open_host
from node.transfer.shards.fetch import ShardFetcher, connect_any, select_units
from node.worker.departure import Departure
from node.worker.errors import WorkerRefused
from node.worker.registration import announce, require_bond
from node.worker.service import (
    Loader,
    ServingWorker,
    WorkerConfig,
    load_verified,
    require_draft_model,
    run_worker,
)
from node.worker.surroundings import Surroundings, look_around, make_held, make_probe
from proto_specs.errors import MyelinError
from proto_specs.types.calls import LeaveWorker, MoveWorker
from proto_specs.types.manifest import Manifest

LOOK_S = 60.0
SETTLE_S = 5.0
"""After this time those that joined at the same moment see each other on chain."""
DRAIN_S_MAX = 600.0
POLL_S = 0.5
CHOICES_MAX = 5
"""While a machine fetches, another may take the range; it does not chase ranges for ever."""
FETCH_BYTES_PER_S = 10_000_000
LOAD_BYTES_PER_S = 100_000_000
LOAD_S_BASE = 5.0
MOVING = "it moves to other layers"

logger = logging.getLogger("myelin.worker")


@dataclass(frozen=True, slots=True)
class PlacingPolicy:
    """How a worker looks for its place. `memory_bytes` bounds weights and KV memory together."""

    memory_bytes: int
    look_s: float = LOOK_S
    settle_s: float = SETTLE_S
    move: MovePolicy = field(default_factory=MovePolicy)


@dataclass(frozen=True, slots=True)
class PlaceFound:
    """A range, and what it was chosen from."""

    worth: Worth
    network: RangeNetwork
    seen: Surroundings

    def explain(self) -> str:
        """Why, in a line."""
        worth, others = self.worth, f"{len(self.seen.held)} of {len(self.seen.listed)} others answer"
        if not worth.is_on_path:
            return f"{others}; a path through it still lacks {worth.workers_missing} machines like this one"
        if self.network.missing != (0, 0, 0):
            return f"{others}; with it the network has a path"
        before, after = self.network.flow / PERMILLE, worth.flow / PERMILLE
        if after > before:
            return f"{others}; all paths together bear {after:.1f} rows/s with it, {before:.1f} without"
        return f"{others}; it eases the narrowest layers, though no single range raises the {before:.1f} rows/s"


class Placer:
    """Finds and keeps a worker's place. The configuration's own layers are not read."""

    def __init__(
        self,
        config: WorkerConfig,
        account: SigningAccount,
        policy: PlacingPolicy,
        departure: Departure | None = None,
    ) -> None:
        self._config, self._account, self._policy = config, account, policy
        self._departure = departure or Departure()
        self._store = ShardStore(config.models)
        self._key = config.worker_key.public_key
        self._place = (0, 0)
        self._is_new = False
        self._intent = Intent()
        self._advice: Advice | None = None
        self.bytes_fetched = 0
        """Of weights, from other workers, since the start."""

    async def run(self, load: Loader = load_verified) -> None:
        """Serve until the departure is carried out, one range after the other.

        Raises NothingFits, FetchFailed, and as `run_worker`.
        """
        self._place = await self._find_first_place()
        while True:
            start, end = self._place
            config = replace(self._config, start=start, end=end)
            await run_worker(config, self._account, load, self._departure, self._watch)
            if self._departure.is_asked:
                return
            self._departure.is_serving = False  # a signal while it loads has nothing to drain

    async def plan(self) -> PlaceFound:
        """What it would take now. Fetches and announces nothing. Raises NothingFits, ChainUnreachable."""
        async with open_host(os.urandom(32), []) as host:
            return await self._choose(host, await self._get_manifest())

    async def _find_first_place(self) -> tuple[int, int]:
        """The range of the registered worker, which stays; a new one's best. All of its weights are here then."""
        manifest = await self._get_manifest()
        require_draft_model(self._config, self._store, manifest)
        known = await self._account.chain.get_worker(self._key)
        async with open_host(os.urandom(32), []) as host:
            if known is not None and not known.is_leaving and known.model == self._config.model:
                self._check_memory(manifest, known)
                logger.info("layers %d to %d are this worker's: it keeps them", known.start, known.end - 1)
                await self._fetch(host, manifest, (known.start, known.end))
                return known.start, known.end
            self._is_new = True
            place = None
            for _ in range(CHOICES_MAX):
                found = await self._choose(host, manifest)
                chosen = (found.worth.start, found.worth.end)
                if chosen == place:
                    break
                place = chosen
                logger.info("chose layers %d to %d: %s", place[0], place[1] - 1, found.explain())
                if not await self._fetch(host, manifest, place):
                    break
            assert place is not None, "chosen at least once"
            return place

    async def _get_manifest(self) -> Manifest:
        manifest = await self._account.chain.get_manifest(self._config.model)
        if manifest is None:
            raise WorkerRefused(f"model {self._config.model.hex()} is not registered on this chain")
        return manifest

    async def _choose(self, host: P2PHost, manifest: Manifest) -> PlaceFound:
        await require_bond(self._config, self._account)
        seen = await self._look_around(host)
        machine = await self._describe_machine(manifest, 0)
        network = RangeNetwork(measure_model(manifest), machine, seen.held)
        return PlaceFound(network.choose(), network, seen)

    async def _look_around(self, host: P2PHost) -> Surroundings:
        chain = self._account.chain
        return await look_around(chain, self._config.model, self._key, make_probe(host, chain.genesis))

    async def _describe_machine(self, manifest: Manifest, layer_us: int) -> Machine:
        chain, config = self._account.chain, self._config
        params = await chain.read(queries.read_params)
        known = await chain.read(queries.read_worker, self._key)
        bond = config.bond if known is None else known.bond
        return Machine(
            memory_bytes=self._policy.memory_bytes,
            kv_positions=config.kv_positions,
            layer_us=layer_us,
            price=max(config.prefill_price, config.decode_price),
            gross_max=bond * params.detection_permille // (params.exposure_factor * PERMILLE),
            bond=bond,
            bond_per_layer=params.capacity_bond_per_layer,
            missing=measure_units(manifest, lambda unit: not self._store.has_unit(config.model, unit)),
        )

    def _check_memory(self, manifest: Manifest, known: WorkerEntry) -> None:
        needed = compute_memory(measure_model(manifest), known.start, known.end, self._config.kv_positions)
        if needed > self._policy.memory_bytes:
            raise WorkerRefused(
                f"layers {known.start} to {known.end - 1}, which this worker is registered for, need {needed / 1e6:.0f}"
                f" MB with their KV memory, {self._policy.memory_bytes / 1e6:.0f} MB are allowed: raise --memory, lower"
                " --kv-positions, or use another worker key"
            )

    async def _fetch(self, host: P2PHost, manifest: Manifest, layers: tuple[int, int]) -> int:
        """Fetch what is missing of a range. Returns the bytes, 0 when all is here. Raises FetchFailed, OSError."""
        model = self._config.model
        ShardRange(manifest, *layers).check()
        self._store.save_manifest(manifest)
        units = [one for one in select_units(manifest, layers) if not self._store.has_unit(model, one)]
        size = sum(one.bytes_total for one in units)
        what = f"layers {layers[0]} to {layers[1] - 1}"
        if not size:
            logger.info("%s: all weights are here, 0 bytes to fetch", what)
            return 0
        serving = [one for one in await self._account.chain.list_workers(model) if not one.is_leaving]
        reached = await connect_any(host, [one.addresses for one in serving if one.worker != self._key])
        logger.info("%s: fetching %d bytes in %d units from %d workers", what, size, len(units), len(reached))
        await ShardFetcher(host, reached, self._store, model).fetch(units, make_progress_log(what))
        self.bytes_fetched += size
        logger.info("%s: fetched %d bytes, %d since the start", what, size, self.bytes_fetched)
        return size

    async def _watch(self, serving: ServingWorker) -> None:
        """Look at the network for as long as this place is kept. Returns once the chain shows another range."""
        manifest = await self._get_manifest()
        if self._is_new:
            await trio.sleep(self._policy.settle_s)
            self._is_new = False
            if await self._leave_twins(serving, manifest):
                return
        while True:
            await trio.sleep(self._policy.look_s)
            try:
                if await self._consider(serving, manifest):
                    return
            except (MyelinError, OSError) as error:  # serving goes on, and a gain that was not seen does not last
                logger.warning("did not look for a better place: %s", error)
                self._intent = replace(self._intent, looks=0)

    async def _consider(self, serving: ServingWorker, manifest: Manifest) -> bool:
        """One look. True once it has moved, by itself or by a call of its operator."""
        moved = await self._read_other_place()
        if moved is not None:
            await self._fetch(serving.host, manifest, moved)
            self._place = moved
            return True
        if serving.presence.leaving == MOVING:
            await self._come_back(serving)
        advice, best = await self._look(serving, manifest)
        if advice not in (Advice.DRAIN, Advice.MOVE):
            return False
        target = (best.start, best.end)
        if await self._fetch(serving.host, manifest, target):
            advice, best = await self._look(serving, manifest)  # that took a while
            if advice not in (Advice.DRAIN, Advice.MOVE) or (best.start, best.end) != target:
                return False
        return await self._move(serving, target)

    async def _look(self, serving: ServingWorker, manifest: Manifest) -> tuple[Advice, Worth]:
        start, end = self._place
        seen = await self._look_around(serving.host)
        layer_us = -(-serving.compute.read_load().decode_us // (end - start))
        machine = await self._describe_machine(manifest, layer_us)
        network = RangeNetwork(measure_model(manifest), machine, seen.held)
        look = Look(network, start, end, len(serving.server.requests), trio.current_time())
        advice, best, self._intent = should_move(look, self._key, self._intent, estimate_reload, self._policy.move)
        if advice is not self._advice:
            logger.info("layers %d to %d: %s (best: %d to %d)", start, end - 1, advice, best.start, best.end - 1)
            self._advice = advice
        return advice, best

    async def _leave_twins(self, serving: ServingWorker, manifest: Manifest) -> bool:
        """Part from those that joined for the same range at the same moment. True once it has moved.

        By the chain's word alone: those that part load their new layers just now, and answer no probe.
        """
        try:
            model, machine = measure_model(manifest), await self._describe_machine(manifest, 0)
            await self._account.chain.get_height()
            workers = await self._account.chain.list_workers(self._config.model)
            held = [make_held(one, None) for one in workers if one.is_active and one.worker != self._key]
            target = choose_among_twins(model, machine, held, self._make_held(machine))
            if target == self._place or len(serving.server.requests):
                return False
            logger.info("others joined for the same layers at once: this one takes %d to %d", target[0], target[1] - 1)
            await self._fetch(serving.host, manifest, target)
            return await self._move(serving, target, is_away=False)
        except (MyelinError, OSError) as error:
            logger.warning("did not look for a better place: %s", error)
            return False

    def _make_held(self, machine: Machine) -> HeldRange:
        kv_positions = machine.kv_positions
        return HeldRange(self._key, *self._place, 0, kv_positions, machine.price, machine.gross_max)

    async def _move(self, serving: ServingWorker, target: tuple[int, int], is_away: bool = True) -> bool:
        """Take other layers on chain, once nothing runs and nothing is unresolved; else serve on. True if it moved.

        `is_away`: no path names it meanwhile. Who has just joined can do without: nobody counts on it yet.
        """
        account, key = self._account, self._key
        logger.info("moving to layers %d to %d: taking no new requests", target[0], target[1] - 1)
        serving.presence.leaving = MOVING
        try:
            if is_away:
                await account.execute(LeaveWorker(key))
            with trio.move_on_after(DRAIN_S_MAX) as waiting:
                await self._wait_until_idle(serving)
            if waiting.cancelled_caught:
                logger.warning("did not move: requests still ran after %.0f s", DRAIN_S_MAX)
            else:
                await account.execute(MoveWorker(key, *target))
        except MyelinError as error:  # the chain may have taken the call all the same: what it shows counts
            logger.warning("did not move: %s", error)
        moved = await self._read_other_place()
        if moved is not None:
            self._place, self._intent = moved, self._intent.note_moved(trio.current_time())
            logger.info("holds layers %d to %d now: loading them", self._place[0], self._place[1] - 1)
            return True
        await self._come_back(serving)
        return False

    async def _read_other_place(self) -> tuple[int, int] | None:
        """The range that the chain shows of this worker, where it serves another one."""
        await self._account.chain.get_height()  # nothing that is remembered of the old range is read again
        entry = await self._account.chain.get_worker(self._key)
        return None if entry is None or (entry.start, entry.end) == self._place else (entry.start, entry.end)

    async def _come_back(self, serving: ServingWorker) -> None:
        """Serve on after a move that was none. Until the chain has heard of it, every look tries again."""
        await announce(self._config, self._account, serving.place)
        serving.presence.leaving = None
        self._intent = replace(self._intent, looks=0)

    async def _wait_until_idle(self, serving: ServingWorker) -> None:
        requests = serving.server.requests
        while True:
            await requests.wait_idle()
            worker = await self._account.chain.read(queries.read_worker, self._key)
            audits = await self._account.chain.read(queries.list_open_audits, self._key)
            if worker is not None and not (worker.open_stages or worker.unresolved or len(requests) or audits):
                return
            await trio.sleep(POLL_S)


def compute_memory(model: ModelBytes, start: int, end: int, kv_positions: int) -> int:
    """Bytes of a range's weights and of its KV memory."""
    return model.weights.count(start, end) + kv_positions * sum(model.kv[start:end])


def estimate_reload(worth: Worth) -> ReloadTime:
    """What a move to this range takes."""
    return ReloadTime(worth.bytes_missing / FETCH_BYTES_PER_S, LOAD_S_BASE + worth.bytes_memory / LOAD_BYTES_PER_S)


def make_progress_log(what: str) -> Callable[[int, int], None]:
    """Logs a tenth of a download when it is reached."""
    told = 0

    def progress(done: int, total: int) -> None:
        nonlocal told
        tenth = 10 * done // total if total else 10
        if tenth > told:
            told = tenth
            logger.info("%s: %d of %d bytes fetched", what, done, total)

    return progress
