"""One shard serving many requests: admission, KV per request, forward passes. The worker's whole model side.

Calls block for the time of the computation and are serialised by a lock inside, so they may come from any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from inference.engine.kv import KvBudget, KvReservation
from inference.engine.kv_memory import KvCache
from inference.engine.ort import ShardSession
from inference.engine.rows import Rows, StageOutput
from inference.errors import EngineError, ModelError
from inference.model.graph.shard import ShardRange
from inference.model.store import ShardStore, find_unit


@dataclass(frozen=True)
class ForwardCall:
    """Rows of a request from position `start`. The last shard answers logits of `logit_rows` (indices into `rows`)."""

    request_id: bytes
    start: int
    rows: Rows
    logit_rows: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Sequence:
    kv: KvCache
    reservation: KvReservation


class StageEngine:
    """Requests on one shard. `kv_positions` is the memory budget, shared by all open requests."""

    def __init__(self, session: ShardSession, kv_positions: int) -> None:
        self.session = session
        self.budget = KvBudget(kv_positions)
        self._sequences: dict[bytes, _Sequence] = {}
        self._lock = threading.Lock()

    @property
    def shard(self) -> ShardRange:
        """The layers served."""
        return self.session.shard

    def open(self, request_id: bytes, positions_max: int) -> None:
        """Reserve memory for a request of up to `positions_max` positions (prompt and generation).

        Raises KvExhaustedError when the budget is taken, EngineError for an open id or a length beyond the context.
        """
        with self._lock:
            if request_id in self._sequences:
                raise EngineError(f"request {request_id.hex()[:16]} is open already")
            reservation = self.budget.reserve(positions_max)
            try:
                kv = self.session.open_kv(positions_max)
            except BaseException:
                reservation.release()
                raise
            self._sequences[request_id] = _Sequence(kv, reservation)

    def forward_batch(self, calls: Sequence[ForwardCall]) -> tuple[StageOutput | ModelError, ...]:
        """Runs a scheduler's step. A failing request gets its error as the answer and disturbs no other request.

        Rows of different requests run one after another: ONNX Runtime's attention wants equal past lengths per call.
        """
        answers: list[StageOutput | ModelError] = []
        with self._lock:
            for call in calls:
                try:
                    answers.append(self._forward(call))
                except ModelError as error:
                    answers.append(error)
        return tuple(answers)

    def truncate(self, request_id: bytes, length: int) -> None:
        """Forget a request's positions from `length` on (rejected drafts, replay after a lost neighbour)."""
        with self._lock:
            self._get(request_id).kv.truncate(length)

    def close(self, request_id: bytes) -> None:
        """End a request and release its memory. An id that is not open is no error."""
        with self._lock:
            sequence = self._sequences.pop(request_id, None)
            if sequence is not None:
                sequence.reservation.release()

    def _forward(self, call: ForwardCall) -> StageOutput:
        kv = self._get(call.request_id).kv
        if call.start != kv.length:
            raise EngineError(f"rows from position {call.start} do not follow the {kv.length} computed")
        return self.session.run(kv, call.rows, call.logit_rows)

    def _get(self, request_id: bytes) -> _Sequence:
        sequence = self._sequences.get(request_id)
        if sequence is None:
            raise EngineError(f"request {request_id.hex()[:16]} is not open")
        return sequence


def load_session(
    store: ShardStore, model_id: bytes, start: int, end: int, threads: int = 1, verify: bool = True
) -> ShardSession:
    """Load layers [start, end) of a stored model, hashing its units first unless `verify` is false.

    Raises StoreError when a unit is missing or damaged, EngineError when the runtime cannot load it.
    """
    manifest = store.load_manifest(model_id)
    shard = ShardRange(manifest, start, end)
    if verify:
        for kind, index in shard.units:
            store.verify_unit(model_id, find_unit(manifest, kind, index))
    return ShardSession(shard, store.get_directory(model_id), threads)
