"""The verifier's second duty: probe the workers of its models, and report on chain those that do not answer.

It shares nothing with the verdicts but host and account, and its failures end with a log line.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Protocol

import trio

from node.client.chain_view import ChainUnreachable, WorkerEntry
from node.client.probing import ProbeFailed
from node.verifier.silence import SilenceBook, compute_period
from node.verifier.submissions import SubmissionRefused
from proto_specs.types.calls import Call, ReportAbsent

logger = logging.getLogger("myelin.verify")

POLL_S = 1.0
PROBE_TIMEOUT_S = 5.0
PROBES_AT_ONCE_MAX = 8

AskWorker = Callable[[WorkerEntry], Awaitable[None]]
"""Probes a worker. Raises ProbeFailed when it does not prove that it is there."""


class AbsenceChain(Protocol):
    """The questions to the chain. Every method raises ChainUnreachable."""

    async def get_height(self) -> int:
        """Height of the last finalized block."""

    async def get_absence_blocks(self) -> int:
        """How long a report counts."""

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        """All workers registered for a model."""

    async def may_report(self, worker: bytes) -> bool:
        """Whether a report of this verifier would count now, and says more than its last one."""

    async def submit(self, call: Call) -> bytes:
        """Sign with the verifier's account and send. Raises SubmissionRefused."""


class AbsenceDuty:
    """Serves one verifier account. `models` are those it verifies, as they change."""

    def __init__(self, account: bytes, chain: AbsenceChain, models: Collection[bytes], ask: AskWorker) -> None:
        self._account = account
        self._chain = chain
        self._models = models
        self._ask = ask
        self._book = SilenceBook(account)
        self._listed: dict[bytes, WorkerEntry] = {}
        self._listed_height = -1
        self._height = -1
        self._limiter = trio.CapacityLimiter(PROBES_AT_ONCE_MAX)

    async def run(self) -> None:
        """Do the duty until cancelled. While the node is unreachable it waits."""
        async with trio.open_nursery() as nursery:
            while True:
                try:
                    for one in await self._list_due():
                        nursery.start_soon(self._probe, one)
                except ChainUnreachable as error:
                    logger.warning("workers are not probed: %s", error)
                await trio.sleep(POLL_S)

    async def run_once(self) -> None:
        """Probe whoever is due, and report; a complete pass. Raises ChainUnreachable."""
        due = await self._list_due()
        async with trio.open_nursery() as nursery:
            for one in due:
                nursery.start_soon(self._probe, one)

    async def _list_due(self) -> list[WorkerEntry]:
        height = await self._chain.get_height()
        if height <= self._height:
            return []
        self._height = height
        period_blocks = compute_period(await self._chain.get_absence_blocks())
        if height >= self._listed_height + max(1, period_blocks // 2):
            found = [one for model in list(self._models) for one in await self._chain.list_workers(model)]
            self._listed = {one.worker: one for one in found if one.is_active and one.operator != self._account}
            self._listed_height = height
        return [self._listed[one] for one in self._book.take_due(list(self._listed), height, period_blocks)]

    async def _probe(self, worker: WorkerEntry) -> None:
        async with self._limiter:
            try:
                await self._ask(worker)
                self._book.note_answer(worker.worker)
                return
            except ProbeFailed as error:
                is_silent = self._book.note_failure(worker.worker, trio.current_time())
                logger.info("probe: %s", error)
            if not is_silent:
                return
            short = worker.worker.hex()[:12]
            try:
                if await self._chain.may_report(worker.worker):
                    await self._chain.submit(ReportAbsent(worker.worker))
                    logger.warning("worker %s answers no probe: reported absent", short)
            except (ChainUnreachable, SubmissionRefused) as error:
                logger.warning("worker %s answers no probe, and is not reported: %s", short, error)
