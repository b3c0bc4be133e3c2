"""The coarse model: a request is an event or two, its times are computed, not played. For 100,000 workers.

It shares with the fine model: machines, ways, churn, the product's `choose_path` and `RangeNetwork`. It leaves out rows,
passes, probes, pings, reports, moves and blocks. In their place:

- A gateway sees the `SEEN_MAX` workers it drew, and keeps the paths that `choose_path` gave it: the first with room
  and without a worker known to be dead is taken. Of a death it learns by a loss, or when a probe would have told it.
- A row takes, at each stage, its pass and half of the passes that others have under way there.
- A loss is found after the time of the product's rules for its kind; a spare of the same layers, or else another path,
  computes the positions so far anew.
- Ranges of more than `PLACED_MAX` workers are drawn from what placement gave the first ones.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from inference.placement import HeldRange, RangeNetwork
from inference.routing import CHUNK_ROWS, LayerOffer, NoPathError, Prefer, choose_path
from node.client.attempt import PATHS_MAX
from node.client.probe_rounds import PROBE_S, PROBE_TIMEOUT_S, PROBES_PER_S
from node.client.stalls import PING_AFTER_S, SILENT_S, STUCK_S
from node.client.transport import DIAL_TIMEOUT_S
from node.client.worker_memory import BACKOFF_S_MIN
from node.sim.network.churn import HOUR_S
from node.sim.network.events import VirtualTime
from node.sim.network.placing import make_machine
from node.sim.network.report import NetworkOutcome, summarize_coarse
from node.sim.network.tally import Tally
from node.sim.network.workers import BOND, DECODE_SHARE, PREFILL_SHARE, STEP_US, WorkerState
from node.sim.network.world import (
    ANSWER_MAX,
    JITTER,
    LAYERS,
    MODEL,
    PRICE_MAX,
    ROW_BYTES,
    Rig,
    Spot,
    WorldPlan,
    draw_lengths,
    draw_rig,
    draw_spot,
)

SEEN_MAX = 1_000
PLACED_MAX = 1_000
PATHS_KEPT = 24


@dataclass(slots=True)
class CoarseWorker:
    """A machine with its range. `dies_s`, and how: DEAD, SILENT, STUCK, or LEAVING for one that drains."""

    key: bytes
    rig: Rig
    start: int
    end: int
    dies_s: float
    how: WorkerState
    kv_used: int = 0
    requests: int = 0

    @property
    def row_s(self) -> float:
        """One row through its layers."""
        return ((self.end - self.start) * self.rig.layer_us + STEP_US) / 1e6

    def send_s(self, rows: int) -> float:
        """Seconds that rows take up its link."""
        return rows * ROW_BYTES / self.rig.up_bytes_s


@dataclass(slots=True)
class CoarseGateway:
    """What a gateway sees and keeps."""

    spot: Spot
    seen: list[CoarseWorker]
    paths: dict[Prefer, list[tuple[CoarseWorker, ...]]] = field(default_factory=dict)
    avoided_s: dict[bytes, float] = field(default_factory=dict)
    """Until when a worker that refused is left out."""
    learns_s: dict[bytes, float] = field(default_factory=dict)
    """When it learns that a worker is dead."""


@dataclass(slots=True)
class CoarseRequest:
    """A request under way."""

    gateway: CoarseGateway
    prefer: Prefer
    prompt: int
    tokens: int
    began_s: float
    done: int = 0
    orders: int = 0
    tried: int = 0
    since_s: float | None = None
    """When the last token came before a loss."""
    first_s: float = 0.0
    excluded: set[bytes] = field(default_factory=set)
    path: tuple[CoarseWorker, ...] = ()

    @property
    def positions(self) -> int:
        """KV memory that it needs."""
        return self.prompt + ANSWER_MAX - 1


class CoarseNetwork:
    """All of it."""

    def __init__(self, seed: int, plan: WorldPlan) -> None:
        self.plan, self.tally, self.virtual = plan, Tally(), VirtualTime()
        self._rng = random.Random(f"{seed} coarse")
        rigs = random.Random(f"{seed} rigs")
        drawn = [(rigs.randbytes(32), draw_rig(rigs, 0)) for _ in range(plan.workers)]
        self.workers = [
            self._make_worker(key, rig, *place)
            for (key, rig), place in zip(drawn, place_all(drawn, self._rng), strict=True)
        ]
        self._gateways = [
            CoarseGateway(draw_spot(rigs), self._rng.sample(self.workers, min(SEEN_MAX, plan.workers)))
            for _ in range(plan.gateways)
        ]

    def run(self) -> None:
        """To the end of the plan, and of the requests that are under way then."""
        self._arrive_later()
        self.virtual.run(self.plan.minutes * 60.0 + 600.0)

    def _make_worker(self, key: bytes, rig: Rig, start: int, end: int) -> CoarseWorker:
        plan, rng = self.plan, self._rng
        dies_s = rng.expovariate(plan.leave_permille / 1_000 / HOUR_S) if plan.leave_permille else float("inf")
        draw = rng.randrange(1_000)
        how = WorkerState.DEAD if draw % 2 else WorkerState.SILENT
        if draw < plan.drain_permille:
            how = WorkerState.LEAVING
        elif draw < plan.drain_permille + plan.hang_permille:
            how = WorkerState.STUCK
        return CoarseWorker(key, rig, start, end, dies_s, how)

    def _arrive_later(self) -> None:
        plan = self.plan
        delay_s = self._rng.expovariate(plan.requests_per_s * plan.flash_factor)
        whole_s, at_s = plan.minutes * 60.0, self.virtual.now_s + delay_s
        is_real = whole_s / 3 <= at_s < whole_s / 2 or self._rng.random() * plan.flash_factor < 1.0
        if at_s < whole_s:
            self.virtual.after(delay_s, self._arrive, is_real)

    def _arrive(self, is_real: bool) -> None:
        self._arrive_later()
        if not is_real:
            return
        rng = self._rng
        prompt, tokens = draw_lengths(rng)
        prefer = Prefer.CHEAP if rng.randrange(1_000) < self.plan.cheap_permille else Prefer.FAST
        self.tally.requests += 1
        self._try(CoarseRequest(rng.choice(self._gateways), prefer, prompt, tokens, self.virtual.now_s))

    def _try(self, request: CoarseRequest) -> None:
        if request.tried >= PATHS_MAX:
            self.tally.note_failed("paths", request.done)
            return
        path = self._repair(request) if request.path else None
        path = path or self._choose(request)
        if path is None:
            self.tally.note_failed("no path", request.done)
            return
        self._begin(request, path)

    def _is_left_out(self, gateway: CoarseGateway, one: CoarseWorker) -> bool:
        now_s = self.virtual.now_s
        if gateway.avoided_s.get(one.key, 0.0) > now_s:
            return True
        if one.dies_s > now_s:
            return False
        if one.how in (WorkerState.LEAVING, WorkerState.STUCK) and one.dies_s + 3.0 < now_s:
            return one.how is WorkerState.LEAVING or one.dies_s + 90.0 < now_s
        if one.key not in gateway.learns_s:
            period_s = max(PROBE_S, len(gateway.seen) / PROBES_PER_S)
            gateway.learns_s[one.key] = one.dies_s + self._rng.random() * period_s + PROBE_TIMEOUT_S
        return gateway.learns_s[one.key] <= now_s

    def _choose(self, request: CoarseRequest) -> tuple[CoarseWorker, ...] | None:
        gateway = request.gateway
        paths = gateway.paths.setdefault(request.prefer, [])
        for path in paths:
            if not any(one.key in request.excluded or self._is_left_out(gateway, one) for one in path):
                return path
        avoid = {one.key for one in gateway.seen if one.key in request.excluded or self._is_left_out(gateway, one)}
        # Whoever is full is known to be, by its report.
        avoid |= {one.key for one in gateway.seen if one.rig.kv_positions - one.kv_used < request.positions}
        by_key = {one.key: one for one in gateway.seen}
        try:
            found = choose_path(
                [make_offer(gateway.spot, one) for one in gateway.seen],
                LAYERS,
                prompt_tokens=request.prompt,
                new_tokens=ANSWER_MAX,
                max_price=PRICE_MAX,
                prefer=request.prefer,
                avoid=avoid,
            )
        except NoPathError:
            return None
        path = tuple(by_key[one.worker] for one in found)
        paths.insert(0, path)
        del paths[PATHS_KEPT:]
        return path

    def _repair(self, request: CoarseRequest) -> tuple[CoarseWorker, ...] | None:
        """The path with a spare of the same layers in the place of each lost stage."""
        gateway, repaired = request.gateway, []
        for one in request.path:
            if one.key not in request.excluded:
                repaired.append(one)
                continue
            spares = [
                other
                for other in gateway.seen
                if (other.start, other.end) == (one.start, one.end)
                and other.key not in request.excluded
                and not self._is_left_out(gateway, other)
                and other.rig.kv_positions - other.kv_used >= request.positions
            ]
            if not spares:
                return None
            repaired.append(
                min(spares, key=lambda other: (other.row_s + gateway.spot.compute_way_s(other.rig.spot), other.key))
            )
        return tuple(repaired)

    def _begin(self, request: CoarseRequest, path: tuple[CoarseWorker, ...]) -> None:
        """Dial, open, and play the order to its end or to the loss of a stage."""
        now_s, gateway = self.virtual.now_s, request.gateway
        round_trip_s = 2.0 * max(gateway.spot.compute_way_s(one.rig.spot) for one in path) * (1.0 + JITTER)
        for one in path:
            if one.dies_s <= now_s and one.how is not WorkerState.STUCK:
                self.tally.count("dials that failed")
                self._lose(request, one, DIAL_TIMEOUT_S if one.how is WorkerState.SILENT else round_trip_s)
                return
        request.orders += 1
        self.tally.orders += 1
        self.tally.stages += len(path)
        kept = {one.key for one in request.path} if request.done else set()
        for one in path:
            if one.key not in kept and one.rig.kv_positions - one.kv_used < request.positions:
                gateway.avoided_s[one.key] = now_s + BACKOFF_S_MIN
                self.tally.count("orders ended by NO_CAPACITY")
                self._lose(request, one, 2.0 * round_trip_s)
                return
        for one in path:
            one.requests += 1
            one.kv_used += request.positions
        fresh = [one for one in path if one.key not in kept]
        total = request.prompt + request.done
        if request.done:
            self.tally.note_replayed(total * len(fresh), is_wasted=False)
        first_s = 2.0 * round_trip_s + compute_hops(path) + self._compute_prefill(path, fresh, total, gateway.spot)
        token_s = compute_token(path)
        whole_s = first_s + token_s * (request.tokens - request.done - 1)
        request.path = path
        dying = min(path, key=lambda one: (one.dies_s, one.key))
        is_dying = dying.how is not WorkerState.LEAVING and dying.dies_s < now_s + whole_s
        lost_s = max(0.0, dying.dies_s - now_s) if is_dying else whole_s
        arrived = (
            max(0, min(request.tokens - request.done, int((lost_s - first_s) / token_s) + 1))
            if lost_s >= first_s
            else 0
        )
        if arrived:
            self._note_first_token(request, now_s + first_s)
        price = sum((one.end - one.start) * one.rig.price for one in path)
        self.tally.tokens += arrived
        self.tally.price_nmyl += price * arrived + (0 if request.done or not arrived else price // 2 * request.prompt)
        request.done += arrived
        request.tried = 0 if arrived else request.tried
        if is_dying:
            if request.done and request.since_s is None:
                request.since_s = now_s + first_s + token_s * max(0, arrived - 1) if arrived else now_s
            self.virtual.after(lost_s, self._end, request, path, dying)
        else:
            self.virtual.after(whole_s, self._end, request, path, None)

    def _note_first_token(self, request: CoarseRequest, at_s: float) -> None:
        if not request.done:
            request.first_s = at_s
            self.tally.note_first(at_s - request.began_s)
        if request.since_s is not None:
            self.tally.note_pause(at_s - request.since_s)
            request.since_s = None

    def _end(self, request: CoarseRequest, path: tuple[CoarseWorker, ...], lost: CoarseWorker | None) -> None:
        for one in path:
            one.requests -= 1
            one.kv_used -= request.positions
        if lost is None:
            seconds = self.virtual.now_s - request.first_s
            pace = (request.tokens - 1) / seconds if seconds > 0 and request.tokens > 1 else None
            self.tally.note_complete(request.orders, pace)
            return
        found_s = {WorkerState.SILENT: PING_AFTER_S + SILENT_S, WorkerState.STUCK: PING_AFTER_S + STUCK_S}
        self._lose(request, lost, found_s.get(lost.how, 0.05))

    def _lose(self, request: CoarseRequest, lost: CoarseWorker, after_s: float) -> None:
        request.excluded.add(lost.key)
        request.tried += 1
        if lost.dies_s <= self.virtual.now_s:
            request.gateway.learns_s[lost.key] = self.virtual.now_s
        self.virtual.after(after_s, self._try, request)

    def _compute_prefill(
        self, path: tuple[CoarseWorker, ...], fresh: Collection[CoarseWorker], rows: int, spot: Spot
    ) -> float:
        """Seconds until the fresh stages have computed so many rows: the first chunk through all, then the slowest."""
        if not fresh:
            return compute_token(path)
        chunk = min(rows, CHUNK_ROWS)
        computing = [one.row_s * (1.0 + PREFILL_SHARE * chunk) * (1.0 + compute_load(one)) for one in fresh]
        sending = [one.send_s(chunk) for one in (path[:-1] if len(fresh) == len(path) else fresh)]
        chunks = -(-rows // CHUNK_ROWS)
        seconds = sum(computing) + sum(sending) + (chunks - 1) * max(*computing, *sending)
        return seconds if len(fresh) == len(path) else seconds + compute_token(path)


def place_all(drawn: list[tuple[bytes, Rig]], rng: random.Random) -> list[tuple[int, int]]:
    """A range for each machine: by placement for the first, then as one of those with as much memory has it."""
    held: list[HeldRange] = []
    by_memory: dict[int, list[tuple[int, int]]] = {}
    places = []
    for number, (key, rig) in enumerate(drawn):
        if number < PLACED_MAX or rig.memory_bytes not in by_memory:
            worth = RangeNetwork(MODEL, make_machine(rig, frozenset(), 0), held).choose()
            place = (worth.start, worth.end)
            held.append(HeldRange(key, *place, rig.layer_us, rig.kv_positions, rig.price, BOND))
            by_memory.setdefault(rig.memory_bytes, []).append(place)
        else:
            place = rng.choice(by_memory[rig.memory_bytes])
        places.append(place)
    return places


def make_offer(spot: Spot, one: CoarseWorker) -> LayerOffer:
    """What a gateway that knows a worker well expects of it, with what others have under way there."""
    return LayerOffer(
        worker=one.key,
        start=one.start,
        end=one.end,
        prefill_price=max(1, one.rig.price // 2),
        decode_price=one.rig.price,
        prefill_us=round(one.row_s * 1e6 * PREFILL_SHARE),
        decode_us=round(one.row_s * 1e6 * (1.0 + compute_load(one))),
        round_trip_us=round(2e6 * spot.compute_way_s(one.rig.spot)),
    )


def compute_hops(path: tuple[CoarseWorker, ...]) -> float:
    """One way from each stage to the next, the last one's back to the first included, with its row's sending."""
    if len(path) < 2:
        return 0.0
    followers = (*path[1:], path[0])
    ways = sum(one.rig.spot.compute_way_s(then.rig.spot) for one, then in zip(path, followers, strict=True))
    return ways * (1.0 + JITTER) + sum(one.send_s(1) for one in path[:-1])


def compute_load(one: CoarseWorker) -> float:
    """How much longer a row takes at a worker with so many requests: they share passes, and wait for each other's."""
    others = max(0, one.requests - 1)
    return min(1.0, others * one.row_s / 0.25) * 0.5 + DECODE_SHARE * min(others, 4) * 0.5


def compute_token(path: tuple[CoarseWorker, ...]) -> float:
    """Seconds from a token to the next one."""
    return compute_hops(path) + sum(one.row_s * (1.0 + compute_load(one)) for one in path)


def simulate_coarsely(seed: int, plan: WorldPlan) -> NetworkOutcome:
    """Run a seed of the coarse model. Liars, outages and moves are the fine model's alone."""
    network = CoarseNetwork(seed, replace(plan, liar_permille=0, outage_every_s=0.0))
    network.run()
    return summarize_coarse(seed, plan, network.tally)
