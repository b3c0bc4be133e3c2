"""What runs the shard: hands the work of all requests to the batcher, step by step, and answers each request.

The model runs in a thread of its own (ONNX Runtime releases the GIL), so frames and heartbeats continue meanwhile. A
step costs two hand-overs, there by a queue and back by a callback of the loop: no task waits for it.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from queue import SimpleQueue

import trio

from inference.decoding.chooser import TokenChooser
from inference.decoding.source import ChooserSource
from inference.engine.batcher import PlannedStep, StageAnswer, StageBatcher
from inference.engine.engine import StageEngine
from inference.engine.rows import Hidden, Rows
from inference.engine.scheduler import compute_chunk_rows
from inference.errors import ModelError
from inference.serving.events import Compute, Computed
from node.worker.pace import PaceMeter
from proto_specs.types.request import Order, compute_positions, read_tokens

LONGEST_DECAY = 0.98
"""Of the longest pass with each later one."""

Answer = Computed | ModelError
Reply = Callable[[Answer], None]


@dataclass(frozen=True, slots=True)
class ComputeLoad:
    """How fast and how full a shard is. Times are microseconds, 0 as long as nothing was measured; KV is positions."""

    decode_us: int
    prefill_us: int
    kv_free: int
    kv_total: int
    waiting_rows: int


class ComputeLoop:
    """Continuous batching of one shard. Steps run in a thread, one at a time.

    The event loop never touches the engine while a step runs: it is locked for as long as that takes, and frames,
    heartbeats and other requests must not wait for it. Whoever has to touch it takes a turn between two steps.
    """

    def __init__(self, engine: StageEngine, choosers: ChooserSource) -> None:
        self._engine = engine
        self._batcher = StageBatcher(engine)
        self._budget = engine.budget
        self._pace = PaceMeter()
        self._is_last = engine.shard.is_last
        self._choosers = choosers
        self._replies: dict[bytes, Reply] = {}
        self.steps = 0
        """Passes of the shard so far: a loop whose number stands still computes nothing."""
        self._longest_s = self._began_s = 0.0
        self._work = trio.Event()
        self._is_running = False
        self._waiting = 0
        self._turn = trio.Lock()
        self._idle = trio.lowlevel.ParkingLot()
        self._failure: BaseException | None = None
        self._steps: SimpleQueue[PlannedStep | None] = SimpleQueue()
        self._taking = trio.CapacityLimiter(1)  # so do the rules of a request, which must hold up no other's tokens
        self._reading = trio.CapacityLimiter(1)  # grammars, which cost their sender nothing, hold up no other request

    @property
    def pass_ms(self) -> int:
        """About how long the longest of the latest passes took."""
        return math.ceil(1e3 * self._longest_s)

    async def open(self, request: bytes, order: Order, prompt: bytes, grammar: bytes, reply: Reply) -> None:
        """Admit a request. `prompt` (token ids) and `grammar` are what the last stage's rules read besides tokens.

        Raises KvExhaustedError when too much is promised to others, DecodingError for rules that nobody can follow,
        StoreError where this worker lacks what they need.
        """
        chooser = await self._make_chooser(order, prompt, grammar)
        async with self._take_turn():
            self._batcher.open(request, *self._measure(order), chooser, self._choose_chunk(order))
            self._replies[request] = reply

    async def adopt(self, before: bytes, request: bytes, order: Order, reply: Reply) -> None:
        """As `open`, for an order that goes on from the request `before` on a shard that draws no tokens.

        Raises EngineError when its memory is gone.
        """
        async with self._take_turn():
            self._batcher.adopt(before, request, *self._measure(order), None, self._choose_chunk(order))
            self._replies.pop(before, None)
            self._replies[request] = reply

    async def rewind(self, request: bytes, position: int) -> None:
        """Forget what an adopted request has from `position` on."""
        async with self._take_turn():
            self._batcher.rewind(request, position)

    async def _make_chooser(self, order: Order, prompt: bytes, grammar: bytes) -> TokenChooser | None:
        if not self._is_last:
            return None
        limiter = self._taking if order.sampling.grammar is None else self._reading
        tokens = read_tokens(prompt)
        known = tokens[: order.answer_start], grammar, tokens[order.answer_start :]
        return await trio.to_thread.run_sync(self._choosers.make, order.sampling, *known, limiter=limiter)

    def _measure(self, order: Order) -> tuple[int, int]:
        return compute_positions(order.prompt_tokens, order.tokens_max), order.prompt_tokens - 1

    def _choose_chunk(self, order: Order) -> int:
        return compute_chunk_rows(order.prompt_tokens, len(order.path))

    async def close(self, request: bytes) -> None:
        """Free a request's memory, also when cancelled; results of a running step are dropped."""
        self._replies.pop(request, None)
        self._batcher.forget(request)
        with trio.CancelScope(shield=True):
            async with self._take_turn():
                self._batcher.close(request)

    async def run_aside(self, rows: Rows) -> Hidden:
        """The output of rows of no request, [n,C], in memory of their own. They take the turn of one step.

        Raises a ModelError as `ShardSession.run`.
        """
        async with self._take_turn():
            return await trio.to_thread.run_sync(self._engine.run_aside, rows)

    def check(self, payload: bytes) -> None:
        """Raises a ModelError for wire bytes that are no rows for this shard: they must not be signed for."""
        self._batcher.check(payload)

    def submit(self, request: bytes, work: Compute) -> None:
        """Queue the rows that follow those submitted before. Raises EngineError when they do not follow."""
        self._batcher.submit(request, work.start, work.count, work.payload, work.draft)
        if work.count == 1 + len(work.draft) and len(self._replies) == 1:
            self._start_step()  # nothing else can come to make one step with it
        else:
            self._work.set()

    def read_load(self) -> ComputeLoad:
        """The load of now. Waits for nothing: a step may be running."""
        pace, budget = self._pace, self._budget
        return ComputeLoad(pace.decode_us, pace.prefill_us, budget.free, budget.total, self._batcher.waiting_rows)

    async def run(self) -> None:
        """Compute until cancelled."""
        loop = trio.lowlevel.current_trio_token()
        threading.Thread(target=self._run_steps, args=(loop,), name="shard", daemon=True).start()
        try:
            while True:
                await self._work.wait()  # not at every submission: those of one round of the loop make one step
                self._work = trio.Event()
                if self._failure is not None:
                    raise self._failure
                self._start_step()
        finally:
            self._waiting += 1  # no step starts any more
            self._steps.put(None)
            with trio.CancelScope(shield=True):  # the engine is nobody else's before the thread is done with it
                while self._is_running:
                    await self._idle.park()

    @asynccontextmanager
    async def _take_turn(self) -> AsyncIterator[None]:
        """No step runs within the block, in which nothing may wait but for the engine; the next one follows it."""
        self._waiting += 1
        try:
            async with self._turn:  # first come, first served
                while self._is_running:
                    await self._idle.park()
                yield
        finally:
            self._waiting -= 1
            self._work.set()  # what waited for memory can run, perhaps

    def _start_step(self) -> None:
        if self._is_running or self._waiting or self._failure is not None:
            return
        planned = self._batcher.plan()
        if planned is not None:
            self._is_running, self._began_s = True, trio.current_time()
            self._steps.put(planned)

    def _run_steps(self, loop: trio.lowlevel.TrioToken) -> None:
        """The thread: steps in, answers out, until None comes or the loop is over."""
        with contextlib.suppress(trio.RunFinishedError):
            while (planned := self._steps.get()) is not None:
                try:
                    answers = self._batcher.run(planned)
                except BaseException as error:  # a bug, which ends the worker and not only its thread
                    loop.run_sync_soon(self._end_step, planned, [], error)
                else:
                    loop.run_sync_soon(self._end_step, planned, answers, None)

    def _end_step(
        self,
        planned: PlannedStep,
        answers: list[tuple[bytes, StageAnswer | ModelError]],
        failure: BaseException | None,
    ) -> None:
        self._is_running = False
        took_s = trio.current_time() - self._began_s
        self._pace.note([one.work.count for one in planned.calls], took_s)
        self._longest_s = max(took_s, LONGEST_DECAY * self._longest_s)
        self.steps += 1
        if failure is not None:
            self._failure = failure
            self._work.set()
        else:
            self._batcher.finish(planned)
            if len(self._replies) > 1:  # else nothing can wait, and looking for it would delay the answer
                self._start_step()  # before the answers are sent: the thread need not wait for that
        self._idle.unpark_all()
        for request, answer in answers:
            reply = self._replies.get(request)
            if reply is None:
                continue
            if isinstance(answer, ModelError):
                reply(answer)
                continue
            rows, trace = (b"", answer.rows) if self._is_last else (answer.rows, b"")
            tokens, scores = answer.tokens, answer.prompt_logprobs
            reply(Computed(answer.start, answer.count, rows, trace, tokens, scores, answer.draft, answer.unsound))
        self._start_step()
