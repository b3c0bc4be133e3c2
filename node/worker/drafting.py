"""Drafts of a first stage's requests: asked for by the stage machine, made by look-up or by a draft model.

A look-up takes microseconds and answers at once. A draft model computes in a thread, one draft at a time, beside the
shard: a request waits for its own draft and goes on meanwhile with everything else.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from inference.drafting.model_drafter import DraftModel
from inference.drafting.policy import DRAFT_MAX
from inference.drafting.speculator import Speculator
from inference.errors import ModelError
from inference.serving.events import Drafted, PromptKnown, Speculate
from proto_specs.types.request import Order, compute_positions, compute_request_id

logger = logging.getLogger("myelin.worker")

JOBS_MAX = 16
"""A request has one draft asked for at a time, and its prompt before."""

DraftJob = PromptKnown | Speculate


@dataclass(frozen=True)
class DraftSource:
    """How a worker drafts, where it is a path's first stage: `drafts_max` tokens of a call at most; 0: not at all."""

    drafts_max: int = DRAFT_MAX
    model: DraftModel | None = None
    turns: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(1))

    def open(self, order: Order, reply: Callable[[Drafted], None]) -> RequestDrafts:
        """Drafts for one request. `reply` gets each of them."""
        return RequestDrafts(self, order, reply)


NO_DRAFTS = DraftSource(0)


class RequestDrafts:
    """One request's drafts. Nothing is kept of it before its prompt is known."""

    def __init__(self, source: DraftSource, order: Order, reply: Callable[[Drafted], None]) -> None:
        self._source = source
        self._order = order
        self._reply = reply
        self._speculator: Speculator | None = None
        self._asked_s: float | None = None
        self._jobs, self._todo = trio.open_memory_channel[tuple[DraftJob, float]](JOBS_MAX)

    def put(self, job: DraftJob) -> None:
        """The prompt, or what came and how much there is room for."""
        now_s = trio.current_time()
        if self._source.model is None:
            self._do(job, now_s)
        else:
            self._jobs.send_nowait((job, now_s))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For as long as the request runs."""
        if self._source.model is None:
            yield
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._run)
            yield
            nursery.cancel_scope.cancel()

    async def _run(self) -> None:
        turns = self._source.turns
        try:
            async for job, asked_s in self._todo:
                found = await trio.to_thread.run_sync(self._compute, job, asked_s, limiter=turns)
                if found is not None:
                    self._reply(found)
        finally:
            if self._speculator is not None:
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self._speculator.close, limiter=turns)

    def _do(self, job: DraftJob, asked_s: float) -> None:
        found = self._compute(job, asked_s)
        if found is not None:
            self._reply(found)

    def _compute(self, job: DraftJob, asked_s: float) -> Drafted | None:
        if isinstance(job, PromptKnown):
            self._speculator = self._begin(job.prompt)
            return None
        assert self._speculator is not None, "the prompt comes first"
        self._speculator.observe(job.drawn, None if self._asked_s is None else asked_s - self._asked_s)
        self._asked_s = asked_s
        return Drafted(self._speculator.draft(job.room))

    def _begin(self, prompt: tuple[int, ...]) -> Speculator:
        order, model, drafter = self._order, self._source.model, None
        positions = compute_positions(order.prompt_tokens, order.tokens_max)
        request = compute_request_id(order)
        if model is not None:
            try:
                drafter = model.open(request, positions, order.sampling)
            except ModelError as error:
                logger.info("request %s is drafted without the model: %s", request.hex()[:12], error)
        speculator = Speculator(positions, model=drafter)
        try:
            speculator.begin(prompt)
        except ModelError as error:  # nothing of the draft model is worth a request
            logger.info("request %s is drafted without the model: %s", request.hex()[:12], error)
            speculator.close()
            speculator = Speculator(positions)
            speculator.begin(prompt)
        return speculator
