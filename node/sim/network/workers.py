"""A simulated worker: what its machine computes, and when. The model of computing time and of the way out; no product.

A pass takes up to `DECODE_ROWS_MAX` decode rows, first come first served, and at most one chunk of a prompt; it takes
the time of one row through all layers, and a share of that for every further row. What a pass made leaves over one
upward link, row after row. KV memory is reserved for all positions of an order, and held for `HOLD_S` (the product's)
after the client has gone on elsewhere.
"""

from __future__ import annotations

import enum
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from node.client.chain_view import WorkerEntry
from node.sim.network.events import VirtualTime
from node.sim.network.world import ROW_BYTES, Rig
from node.worker.ends import get_hold_s
from proto_specs.types.probe import WorkerReport
from proto_specs.types.wire import FailureCode

STEP_US = 1_500
"""Of a pass besides its layers."""
DECODE_ROWS_MAX = 16
DECODE_SHARE, PREFILL_SHARE = 0.05, 0.02
"""What another decode row, and a row of a prompt, add to a pass, as shares of one row's time."""
PASSES_REMEMBERED = 8
MODEL_ID = b"\x4d" * 32
BOND = 10**15


class WorkerState(enum.Enum):
    """DEAD: its address refuses. SILENT: nothing ever comes. STUCK: it answers, and computes nothing."""

    LOADING = "loading"
    SERVING = "serving"
    LEAVING = "leaving"
    STUCK = "stuck"
    SILENT = "silent"
    DEAD = "dead"


class StageSink(Protocol):
    """The order that rows belong to."""

    @property
    def is_over(self) -> bool:
        """Whether its rows are of no use any more."""

    @property
    def stages(self) -> Sequence[SimWorker]:
        """The workers of its path."""

    def note_computed(self, stage: int, rows: int, is_decode: bool) -> None:
        """A stage has computed rows, now."""

    def note_reset(self, stage: int) -> None:
        """A stage's process has ended: its connections are reset, now."""


Item = tuple[StageSink, int, int]
"""Order, stage, rows."""


class ReservedKv:
    """KV memory of one request: `positions`, and the order that owns it."""

    __slots__ = ("layers", "order", "positions")

    def __init__(self, order: StageSink, positions: int, layers: tuple[int, int]) -> None:
        self.order, self.positions, self.layers = order, positions, layers


class SimWorker:
    """A worker from the moment it serves."""

    def __init__(self, virtual: VirtualTime, rng: random.Random, key: bytes, rig: Rig, start: int, end: int) -> None:
        self.key, self.rig = key, rig
        self.start, self.end = start, end
        self.state = WorkerState.SERVING
        self.kv: dict[object, ReservedKv] = {}
        self.orders: dict[StageSink, int] = {}
        """Orders with a connection to it, and which stage it is of them."""
        self.known: set[bytes] = set()
        """Workers that it has a connection to."""
        self.bytes_fetched = 0
        self.steps = 0
        self.stored: set[int] = set(range(start, end))
        self.kv_used = 0
        self._virtual, self._rng = virtual, rng
        self._decode: deque[Item] = deque()
        self._prefill: deque[Item] = deque()
        self._waiting_rows = 0
        self._is_busy = False
        self._up_free_s = 0.0
        self._passes_ms: deque[int] = deque(maxlen=PASSES_REMEMBERED)
        self._life = 0
        """Grows when what is under way is lost."""

    @property
    def is_reachable(self) -> bool:
        """Whether anything comes back from it."""
        return self.state in (WorkerState.SERVING, WorkerState.LEAVING, WorkerState.STUCK)

    @property
    def row_s(self) -> float:
        """One row through its layers, in seconds."""
        return ((self.end - self.start) * self.rig.layer_us + STEP_US) / 1e6

    @property
    def pass_ms(self) -> int:
        """The longest of the latest passes."""
        return max(self._passes_ms, default=0)

    def describe(self, *, is_active: bool, is_leaving: bool = False, is_absent: bool = False) -> WorkerEntry:
        """As the chain lists it."""
        return WorkerEntry(
            worker=self.key,
            operator=self.key,
            model=MODEL_ID,
            start=self.start,
            end=self.end,
            bond=BOND,
            gross_max=BOND,
            peer_id=self.key.hex()[:16],
            addresses=(f"/sim/{self.key.hex()[:16]}",),
            prefill_price=max(1, self.rig.price // 2),
            decode_price=self.rig.price,
            is_active=is_active,
            is_leaving=is_leaving,
            is_absent=is_absent,
        )

    def report(self, lie_factor: int) -> WorkerReport:
        """What it answers to a probe. A liar says that it takes so many times less than it does."""
        decode_us, prefill_us = self.row_s * 1e6, self.row_s * 1e6 * PREFILL_SHARE
        divisor = lie_factor if self.rig.is_liar else 1
        return WorkerReport(
            genesis=MODEL_ID,
            nonce=MODEL_ID,
            worker=self.key,
            peer_id="",
            model=MODEL_ID,
            start=self.start,
            end=self.end,
            height=1,
            decode_us=round(decode_us / divisor),
            prefill_us=max(1, round(prefill_us / divisor)),
            kv_free=self.rig.kv_positions - self.kv_used,
            kv_total=self.rig.kv_positions,
            requests=len(self.kv),
            waiting_rows=0 if self.rig.is_liar else self._waiting_rows,
            is_leaving=self.state is WorkerState.LEAVING,
        )

    def reserve(self, request: object, order: StageSink, positions: int) -> tuple[FailureCode | None, bool]:
        """Room for an order: why there is none, or None; and whether it adopts what an order before left here."""
        held = self.kv.get(request)
        if held is not None and held.layers == (self.start, self.end):
            self.kv_used += positions - held.positions
            held.order, held.positions = order, positions
            return None, True
        if self.state is WorkerState.LEAVING:
            return FailureCode.LEAVING, False
        if self.kv_used + positions > self.rig.kv_positions:
            return FailureCode.NO_CAPACITY, False
        self.kv[request] = ReservedKv(order, positions, (self.start, self.end))
        self.kv_used += positions
        return None, False

    def leave_order(self, request: object, order: StageSink, code: FailureCode | None) -> None:
        """An order is over here: its memory is free at once, or after the time that the product holds it."""
        self.orders.pop(order, None)
        hold_s = 0.0 if code is None else get_hold_s(code)
        if hold_s:
            self._virtual.after(hold_s, self._release, request, order)
        else:
            self._release(request, order)

    def take(self, order: StageSink, stage: int, rows: int, is_decode: bool) -> None:
        """Rows have come."""
        if not self.is_reachable:
            return
        (self._decode if is_decode else self._prefill).append((order, stage, rows))
        self._waiting_rows += rows
        if not self._is_busy and self.state is not WorkerState.STUCK:
            self._begin_pass()

    def send(self, rows: int, way_s: float, then: Callable[..., None], *args: object) -> None:
        """Send rows up its link; `then` runs when the last one has come.

        Streams share the link, so a single row does not wait behind the chunks of others' prompts.
        """
        now_s, own_s = self._virtual.now_s, rows * ROW_BYTES / self.rig.up_bytes_s
        self._up_free_s = max(now_s, self._up_free_s) + own_s
        self._virtual.after((own_s if rows == 1 else self._up_free_s - now_s) + way_s, then, *args)

    def fall(self, state: WorkerState) -> list[tuple[StageSink, int]]:
        """Stop computing: what is under way is lost. The orders that were connected, and their stages."""
        self.state = state
        self._life += 1
        self._decode.clear()
        self._prefill.clear()
        self._waiting_rows = 0
        if state is WorkerState.STUCK:
            return []
        orders = list(self.orders.items())
        self.kv.clear()
        self.orders.clear()
        self.kv_used, self._is_busy = 0, False
        return orders

    def come_back(self) -> None:
        """Serve again, as a process that starts anew."""
        self.state = WorkerState.SERVING
        self._up_free_s = self._virtual.now_s

    def _release(self, request: object, order: StageSink) -> None:
        held = self.kv.get(request)
        if held is not None and held.order is order:
            del self.kv[request]
            self.kv_used -= held.positions

    def _begin_pass(self) -> None:
        decode = self._pop(self._decode, DECODE_ROWS_MAX)
        prefill = self._pop(self._prefill, 1)
        if not decode and not prefill:
            self._is_busy = False
            return
        self._is_busy = True
        rows = sum(rows for _, _, rows in prefill)
        seconds = self.row_s * (1.0 + DECODE_SHARE * max(0, len(decode) - 1) + PREFILL_SHARE * rows)
        self._passes_ms.append(round(seconds * 1_000))
        self._virtual.after(seconds, self._end_pass, self._life, decode, prefill)

    def _pop(self, queue: deque[Item], count: int) -> list[Item]:
        taken: list[Item] = []
        while queue and len(taken) < count:
            item = queue.popleft()
            self._waiting_rows -= item[2]
            if not item[0].is_over:
                taken.append(item)
        return taken

    def _end_pass(self, life: int, decode: list[Item], prefill: list[Item]) -> None:
        if life != self._life:
            return
        self.steps += 1
        for order, stage, rows in decode:
            order.note_computed(stage, rows, True)
        for order, stage, rows in prefill:
            order.note_computed(stage, rows, False)
        self._begin_pass()
