"""The task that runs the shard: takes work of all requests, decode before prefill, and answers each request.

The model runs in a thread (ONNX Runtime releases the GIL), so frames and heartbeats continue meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from inference.engine.engine import ForwardCall, StageEngine
from inference.engine.rows import Rows, StageOutput
from inference.engine.scheduler import EngineStep, Scheduler
from inference.engine.wire_dtype import decode_rows, decode_tokens, encode_rows
from inference.errors import ModelError
from inference.sampling import sample
from inference.serving.events import Compute, Computed
from proto_specs.types.manifest import TOKEN_BYTES, Manifest, WireDtype
from proto_specs.types.request import SamplingParams

Answer = Computed | ModelError
Reply = Callable[[Answer], None]


@dataclass
class _Job:
    """Waiting wire rows of a request, from position `start` on."""

    sampling: SamplingParams
    sample_from: int
    reply: Reply
    start: int = 0
    waiting: bytearray = field(default_factory=bytearray)


class ComputeLoop:
    """Continuous batching of one shard. Long operations run in a thread, one at a time, in turn.

    The event loop never touches the engine: it is locked for as long as a step takes, and frames, heartbeats and other
    requests must not wait for that.
    """

    def __init__(self, engine: StageEngine, manifest: Manifest) -> None:
        self._engine = engine
        self._shard = engine.shard
        self._wire = WireDtype(manifest.wire_dtype)
        width = manifest.architecture.hidden
        self._row_bytes = TOKEN_BYTES if self._shard.is_first else width * self._wire.item_bytes
        self._scheduler = Scheduler()
        self._jobs: dict[bytes, _Job] = {}
        self._work = trio.Event()
        self._turn = trio.Lock()
        self._limiter = trio.CapacityLimiter(1)  # of our own: whatever fills the common one, the shard has its thread

    async def open(
        self, request: bytes, positions: int, sample_from: int, sampling: SamplingParams, reply: Reply
    ) -> None:
        """Reserve KV memory for `positions`. Raises KvExhaustedError when too little is free."""
        async with self._turn:
            await trio.to_thread.run_sync(self._engine.open, request, positions, limiter=self._limiter)
            self._jobs[request] = _Job(sampling, sample_from, reply)

    async def close(self, request: bytes) -> None:
        """Free a request's memory, also when cancelled; results of a running step are dropped."""
        self._jobs.pop(request, None)
        self._scheduler.remove(request)
        with trio.CancelScope(shield=True):
            async with self._turn:
                self._engine.close(request)

    def submit(self, request: bytes, work: Compute) -> None:
        """Queue the rows that follow those submitted before. Raises EngineError when they do not follow."""
        job = self._jobs[request]
        self._scheduler.enqueue(request, work.start, work.count)
        job.waiting += work.payload
        self._work.set()

    async def run(self) -> None:
        """Compute until cancelled."""
        while True:
            await self._work.wait()
            async with self._turn:
                step = self._scheduler.schedule()
                if step.works:
                    await self._run_step(step)
                else:
                    self._work = trio.Event()

    async def _run_step(self, step: EngineStep) -> None:
        payloads = [self._take(work.request_id, work.count) for work in step.works]
        jobs = [self._jobs[work.request_id] for work in step.works]
        answers = await trio.to_thread.run_sync(self._compute, step, payloads, jobs, limiter=self._limiter)
        self._scheduler.update(step)
        for work, job, answer in zip(step.works, jobs, answers, strict=True):
            if self._jobs.get(work.request_id) is job:
                job.reply(answer)

    def _take(self, request: bytes, count: int) -> bytes:
        job = self._jobs[request]
        size = count * self._row_bytes
        payload = bytes(job.waiting[:size])
        del job.waiting[:size]
        return payload

    def _compute(self, step: EngineStep, payloads: list[bytes], jobs: list[_Job]) -> list[Answer]:
        """In the thread: decode rows, run the shard, sample, encode. A failing request gets its error as the answer."""
        answers: list[Answer] = []
        for work, payload, job in zip(step.works, payloads, jobs, strict=True):
            try:
                first = max(work.start, job.sample_from) if self._shard.is_last else work.start + work.count
                wanted = tuple(range(first - work.start, work.count))
                call = ForwardCall(work.request_id, work.start, self._decode(payload), wanted)
                (output,) = self._engine.forward_batch([call])
                if isinstance(output, ModelError):
                    raise output
                answers.append(self._finish(call, output, job.sampling))
            except ModelError as error:
                answers.append(error)
        return answers

    def _decode(self, payload: bytes) -> Rows:
        architecture = self._shard.architecture
        if self._shard.is_first:
            return decode_tokens(payload, architecture.vocab)
        return decode_rows(payload, self._wire, architecture.hidden)

    def _finish(self, call: ForwardCall, output: StageOutput, sampling: SamplingParams) -> Computed:
        count = len(output.hidden)
        rows = encode_rows(output.hidden, self._wire)
        if not self._shard.is_last:
            return Computed(call.start, count, rows, b"", ())
        tokens: list[int] = []
        if output.logits is not None:
            positions = (call.start + row for row in call.logit_rows)
            tokens = [
                sample(logits, sampling, position) for logits, position in zip(output.logits, positions, strict=True)
            ]
        return Computed(call.start, count, b"", rows, tuple(tokens))
