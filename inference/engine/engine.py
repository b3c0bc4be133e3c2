"""One shard serving many requests: admission, KV per request, forward passes. The worker's whole model side.

KV memory is taken as it is used. When it runs out, requests that came last give theirs back and are computed again from
the rows the engine kept of them (their replay records), so that nobody is refused halfway.

Calls block for the time of the computation and are serialised by a lock inside, so they may come from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from inference.engine.device import CPU, Device
from inference.engine.kv import KvBudget, KvReservation
from inference.engine.kv_memory import KvCache, KvMemory
from inference.engine.kv_slots import KvSlots
from inference.engine.ort import ShardSession, require_device
from inference.engine.replay import ReplayRecord
from inference.engine.rows import Hidden, Rows, StageOutput
from inference.errors import EngineError, KvExhaustedError, ModelError
from inference.model.graph.shard import ShardRange
from inference.model.store import ShardStore, find_unit
from proto_specs.limits import WINDOW_POSITIONS

IDLE_POSITIONS_MAX = 4_096
"""Positions of sequences that lie between two others in memory and are attended to in vain; more of them cost more than
a second call."""
APART_MAX = 2
"""So few single rows take less time one after another: several at once pay for unpacking the weights, one does not."""
PROMISED_SHARE_MAX = 4
"""Requests may together ask for so many times the memory there is: few answers grow as long as they may."""


@dataclass(frozen=True)
class ForwardCall:
    """Rows of a request from position `start`. The last shard answers logits of `logit_rows` (indices into `rows`)."""

    request_id: bytes
    start: int
    rows: Rows
    logit_rows: tuple[int, ...] = ()


@dataclass
class _Sequence:
    """A request: its memory (None, unless a device's, before its first rows and while evicted), and its rows so far."""

    positions_max: int
    kv: KvCache | None = None
    reservation: KvReservation | None = None
    record: ReplayRecord = field(default_factory=ReplayRecord)

    @property
    def length(self) -> int:
        return 0 if self.kv is None else self.kv.length


class StageEngine:
    """Requests on one shard. `kv_positions` is the memory budget, shared by all open requests."""

    def __init__(self, session: ShardSession, kv_positions: int) -> None:
        self.session = session
        self.budget = KvBudget(kv_positions)
        positions = kv_positions if session.is_on_device else None
        self._slots = KvSlots(session.make_memory, session.shard.architecture.context_max, positions)
        self._sequences: dict[bytes, _Sequence] = {}
        self._promised = 0
        self._lock = threading.Lock()

    @property
    def shard(self) -> ShardRange:
        """The layers served."""
        return self.session.shard

    def open(self, request_id: bytes, positions_max: int) -> None:
        """Admit a request of up to `positions_max` positions (prompt and generation).

        Raises KvExhaustedError when it could never fit or too much is promised to others, EngineError for an open id or
        a length beyond the context.
        """
        context_max = self.shard.architecture.context_max
        with self._lock:
            if request_id in self._sequences:
                raise EngineError(f"request {request_id.hex()[:16]} is open already")
            if not 1 <= positions_max <= context_max:
                raise EngineError(f"a sequence has 1 to {context_max} positions, not {positions_max}")
            free = min(self.budget.total, self._count_free())
            if positions_max > free:
                raise KvExhaustedError(positions_max, free)
            sequence = _Sequence(positions_max)
            if self.session.is_on_device:  # memory is taken whole there: whoever is admitted has it to the end
                try:
                    sequence.kv = self._slots.open(positions_max)
                except EngineError as error:
                    raise KvExhaustedError(positions_max, 0) from error
            self._promised += positions_max
            self._sequences[request_id] = sequence

    def close(self, request_id: bytes) -> None:
        """End a request and release its memory. An id that is not open is no error."""
        with self._lock:
            sequence = self._sequences.pop(request_id, None)
            if sequence is not None:
                self._promised -= sequence.positions_max
                self._release(sequence)
                if sequence.kv is not None:
                    self._slots.close(sequence.kv)

    def rename(self, request_id: bytes, new_id: bytes, positions_max: int) -> None:
        """A request goes on under another id, with all it holds, as the latest to come.

        Raises EngineError when that id is open, or the length beyond the context or the memory held, KvExhaustedError
        when it asks for more than is left to promise.
        """
        context_max = self.shard.architecture.context_max
        with self._lock:
            sequence = self._get(request_id)
            if new_id in self._sequences:
                raise EngineError(f"request {new_id.hex()[:16]} is open already")
            if not 1 <= positions_max <= context_max:
                raise EngineError(f"a sequence has 1 to {context_max} positions, not {positions_max}")
            if sequence.kv is not None and positions_max > sequence.positions_max:
                raise EngineError(f"memory for {sequence.positions_max} positions is held, not for {positions_max}")
            more, free = positions_max - sequence.positions_max, self._count_free()
            if more > 0 and (more > free or positions_max > self.budget.total):
                raise KvExhaustedError(positions_max, free)
            self._promised += positions_max - sequence.positions_max
            sequence.positions_max = positions_max
            del self._sequences[request_id]
            self._sequences[new_id] = sequence

    def _count_free(self) -> int:
        """Positions that may still be promised."""
        return PROMISED_SHARE_MAX * self.budget.total - self._promised

    def get_length(self, request_id: bytes) -> int:
        """Positions in a request's KV memory."""
        with self._lock:
            return self._get(request_id).length

    def truncate(self, request_id: bytes, length: int) -> None:
        """Forget a request's positions from `length` on (rejected drafts, replay after a lost neighbour)."""
        with self._lock:
            sequence = self._get(request_id)
            sequence.record.truncate(length)
            if sequence.kv is not None and sequence.kv.length > length:
                sequence.kv.truncate(length)

    def make_room(self, request_id: bytes, end: int, busy: Collection[bytes]) -> list[bytes] | None:
        """Take memory for positions up to `end` of a request.

        Where too little is free, requests that came later and are not `busy` give theirs back, the latest first, and
        are returned: their positions have to be computed again from 0 (`get_record`). None when that is not enough. So
        the oldest request always gets on, and no two take memory from each other in turn. Raises EngineError, and
        takes nothing from anybody, when the system gives no memory.
        """
        with self._lock:
            sequence = self._get(request_id)
            wanted = min(-(-end // WINDOW_POSITIONS) * WINDOW_POSITIONS, sequence.positions_max)
            held = 0 if sequence.reservation is None else sequence.reservation.positions
            free = self.budget.free
            evicted: list[bytes] = []
            for key, other in reversed(self._sequences.items()):
                if wanted - held <= free or key == request_id:
                    break
                if other.reservation is not None and key not in busy:
                    free += other.reservation.positions
                    evicted.append(key)
            if wanted - held > free:
                return None
            sequence.kv = sequence.kv or self._slots.open(sequence.positions_max)
            for key in evicted:
                self._release(self._sequences[key])
            self._hold(sequence, wanted)
            return evicted

    def get_record(self, request_id: bytes, start: int, count: int) -> Rows:
        """Rows [start, start + count) that a request was given before, to compute them again."""
        with self._lock:
            return self._get(request_id).record.read(start, count)

    def forward_batch(self, calls: Sequence[ForwardCall]) -> tuple[StageOutput | ModelError, ...]:
        """Runs a scheduler's step. A failing request gets its error as the answer and disturbs no other request.

        Single rows of requests in one memory run in one call; longer ones run one after another.
        """
        answers: dict[int, StageOutput | ModelError] = {}
        with self._lock:
            together: dict[KvMemory, list[int]] = {}
            for place, call in enumerate(calls):
                try:
                    kv = self._prepare(call)
                except ModelError as error:
                    answers[place] = error
                    continue
                if len(call.rows) == 1:
                    together.setdefault(kv.memory, []).append(place)
                else:
                    answers[place] = self._run(call)
            for memory_places in together.values():
                for places in self._group_near(calls, memory_places):
                    answers |= self._run_together(calls, places)
            for place, call in enumerate(calls):
                if isinstance(answers[place], StageOutput):
                    self._remember(call)
        return tuple(answers[place] for place in range(len(calls)))

    def run_aside(self, rows: Rows) -> Hidden:
        """The output of rows of no request, [n,C]: beside the budget, for as long as it takes. Raises as `run`."""
        with self._lock:
            return self.session.run(self.session.open_kv(len(rows)), rows).hidden

    def _prepare(self, call: ForwardCall) -> KvCache:
        sequence = self._get(call.request_id)
        if call.start != sequence.length:
            raise EngineError(f"rows from position {call.start} do not follow the {sequence.length} computed")
        end = call.start + len(call.rows)
        if end > sequence.positions_max:
            raise EngineError(f"{call.start} + {len(call.rows)} positions exceed the {sequence.positions_max} reserved")
        self._hold(sequence, end)
        assert sequence.kv is not None, "memory is held"
        return sequence.kv

    def _hold(self, sequence: _Sequence, positions: int) -> None:
        """Raises KvExhaustedError when the budget has too little left, EngineError when the system gives no memory."""
        if sequence.reservation is None:
            sequence.kv = sequence.kv or self._slots.open(sequence.positions_max)
            sequence.reservation = self.budget.reserve(max(positions, 1))
        sequence.reservation.grow(positions)

    def _release(self, sequence: _Sequence) -> None:
        if sequence.kv is not None and sequence.reservation is not None:
            sequence.reservation.release()
            sequence.kv.truncate(0)
            if not self.session.is_on_device:
                self._slots.close(sequence.kv)
                sequence.kv = None
        sequence.reservation = None

    def _run(self, call: ForwardCall) -> StageOutput | ModelError:
        kv = self._get(call.request_id).kv
        assert kv is not None, "prepared"
        try:
            return self.session.run(kv, call.rows, call.logit_rows)
        except ModelError as error:
            return error

    def _group_near(self, calls: Sequence[ForwardCall], places: Sequence[int]) -> list[list[int]]:
        """Calls of one memory in order of their slots, parted where long sequences lie idle between two."""
        held = {place: kv for place in places if (kv := self._get(calls[place].request_id).kv) is not None}
        groups: list[list[int]] = []
        for place in sorted(held, key=lambda one: held[one].slot):
            kv = held[place]
            before = held[groups[-1][-1]].slot + 1 if groups else kv.slot
            if groups and sum(kv.memory.lengths[before : kv.slot]) <= IDLE_POSITIONS_MAX:
                groups[-1].append(place)
            else:
                groups.append([place])
        return groups

    def _run_together(self, calls: Sequence[ForwardCall], places: Sequence[int]) -> dict[int, StageOutput | ModelError]:
        """One call for single rows of one memory; each alone when they are few, or when that fails: so the one at fault
        is found."""
        if len(places) > APART_MAX:
            chosen = [calls[place] for place in places]
            caches = [kv for call in chosen if (kv := self._get(call.request_id).kv) is not None]
            asked = [bool(call.logit_rows) for call in chosen]
            try:
                outputs = self.session.run_together(caches, [call.rows for call in chosen], asked)
                return dict(zip(places, outputs, strict=True))
            except ModelError:
                pass
        return {place: self._run(calls[place]) for place in places}

    def _remember(self, call: ForwardCall) -> None:
        sequence = self._get(call.request_id)
        if call.start == sequence.record.length:  # not again, when it is a replay
            sequence.record.append(call.rows)

    def _get(self, request_id: bytes) -> _Sequence:
        sequence = self._sequences.get(request_id)
        if sequence is None:
            raise EngineError(f"request {request_id.hex()[:16]} is not open")
        return sequence


def load_session(
    store: ShardStore,
    model_id: bytes,
    start: int,
    end: int,
    threads: int = 1,
    verify: bool = True,
    device: Device = CPU,
) -> ShardSession:
    """Load layers [start, end) of a stored model, hashing its units first unless `verify` is false.

    Raises StoreError when a unit is missing or damaged, EngineError when the runtime cannot load it, and, before
    anything is read, DeviceError when it cannot compute on `device`.
    """
    require_device(device)
    manifest = store.load_manifest(model_id)
    shard = ShardRange(manifest, start, end)
    if verify:
        for kind, index in shard.units:
            store.verify_unit(model_id, find_unit(manifest, kind, index))
    return ShardSession(shard, store.get_directory(model_id), threads, device)
