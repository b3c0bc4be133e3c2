"""Asks models over libp2p and pays from sessions that last: fulfils `Inference` of `answer.py`.

A request that fails before its first token is made again over another path; the caller sees only the last failure.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from node.client.account import SigningAccount
from node.client.answer import Ask, RequestOutcome
from node.client.attempt import RequestAttempts
from node.client.batches import BatchRules
from node.client.chain_view import WorkerEntry
from node.client.escrow_bank import ChainBank
from node.client.outcome import make_absent, read_outcome, read_stated_outcome
from node.client.paid_answer import PaidAnswer
from node.client.probing import probe_worker
from node.client.purse import HeldSession, PoolRules
from node.client.routes import Routes
from node.client.rpc_chain import RpcChain
from node.client.session_files import SessionFiles
from node.client.session_pool import ReportClosed, SessionPool, open_pool
from node.client.statement_clerk import P2PSigners, StatementClerk
from node.client.statement_files import DIRECTORY_SUFFIX, StatementFiles
from node.client.transport import P2PTransport, RequestTransport
from node.client.worker_memory import WorkerMemory
from node.p2p.host import P2PHost
from proto_specs.types.probe import WorkerReport

SETTLING_WAIT_S = 2.0
REQUESTS_KEPT_MAX = 10_000

logger = logging.getLogger("myelin.client")


@dataclass(frozen=True, slots=True)
class InferenceParts:
    """What requests are made with. `nursery` runs what outlives a caller's block.

    `clerk` settles finished requests together; None: each settles by itself.
    """

    chain: RpcChain
    transport: RequestTransport
    pool: SessionPool
    routes: Routes
    nursery: trio.Nursery
    clerk: StatementClerk | None = None


class PaidInference:
    """Fulfils `Inference`. Made by `open_inference` only."""

    def __init__(self, parts: InferenceParts) -> None:
        self._parts = parts
        self._made: dict[bytes, PaidAnswer] = {}
        self._running: set[PaidAnswer] = set()

    @asynccontextmanager
    async def ask(self, ask: Ask) -> AsyncIterator[PaidAnswer]:
        """See Inference. The block begins when every stage has accepted."""
        answer = PaidAnswer(ask)
        parts = self._parts
        attempts = RequestAttempts(parts.chain.genesis, parts.transport, parts.pool, parts.routes, ask, parts.clerk)
        self._running.add(answer)
        parts.nursery.start_soon(self._run, attempts, answer)
        try:
            await answer.wait_accepted()
            yield answer
        finally:
            if not answer.is_signed:
                answer.scope.cancel()
                with trio.CancelScope(shield=True):
                    await answer.ended.wait()

    async def prepare(self, model: bytes, max_price: int, price: int) -> None:
        """Have a session open in which a request of this price fits, and the model's workers known."""
        await self._parts.pool.prepare(model, max_price, price)

    def count_sessions(self) -> int:
        """Sessions that are open, as far as known here."""
        return self._parts.pool.count()

    async def probe_workers(self) -> None:
        """Raises WorkersAway when a model in use has no path but over workers that failed lately."""
        self._parts.routes.require_workers()

    def find_session(self, session: bytes) -> HeldSession | None:
        """A session that pays for requests made here."""
        return self._parts.pool.find(session)

    async def get_outcome(self, request: bytes, session: bytes | None = None) -> RequestOutcome:
        """See Inference. A request of an earlier run is lost once its session settles nothing more."""
        chain = self._parts.chain
        found = await chain.read(read_outcome, request)
        stated = None if self._parts.clerk is None else self._parts.clerk.find(request)
        if found is None and stated is not None:
            found = await chain.read(read_stated_outcome, request, stated)
        if found is not None:
            return found
        answer = self._made.get(request)
        if answer is None:
            is_running = any(request in one.requests for one in self._running)
            is_lost = session is not None and not is_running and await self._is_over(session)
            return make_absent(request, is_lost=is_lost)
        if not answer.ended.is_set():
            return make_absent(request, is_lost=False)
        is_lost = not answer.is_owed(request) or await self._is_over(answer.session)
        return make_absent(request, is_lost=is_lost)

    async def _is_over(self, session: bytes) -> bool:
        """Whether the session settles nothing more. A node that catches up does not know which ones there are."""
        found = await self._parts.chain.get_session(session)
        if found is not None:
            return not found.is_settleable
        return (await self._parts.chain.get_health()).is_current

    async def finish(self) -> None:
        """Let signed requests be settled, for a moment."""
        with trio.move_on_after(SETTLING_WAIT_S) as scope:
            scope.shield = True
            for answer in list(self._running):
                if answer.is_signed:
                    await answer.ended.wait()

    async def _run(self, attempts: RequestAttempts, answer: PaidAnswer) -> None:
        try:
            await attempts.run(answer)
        finally:
            self._running.discard(answer)
            for request in answer.requests:
                self._made[request] = answer
            while len(self._made) > REQUESTS_KEPT_MAX:
                del self._made[next(iter(self._made))]


class P2PProbes:
    """Asks workers over libp2p."""

    def __init__(self, host: P2PHost, genesis: bytes) -> None:
        self._host = host
        self._genesis = genesis

    async def probe(self, entry: WorkerEntry, timeout_s: float) -> tuple[WorkerReport, float]:
        """See ProbeSource. Raises ProbeFailed."""
        return await probe_worker(self._host, entry, self._genesis, timeout_s)


@asynccontextmanager
async def open_inference(
    account: SigningAccount,
    host: P2PHost,
    base: Path,
    rules: PoolRules,
    report_closed: ReportClosed,
    batches: BatchRules | None = None,
) -> AsyncIterator[PaidInference]:
    """Inference paid by an account, for the block; its sessions are kept in files under `base` and closed at the end.

    `report_closed` is told of each session that a process of this account had left open. `batches`: when finished
    requests settle together; None: each settles by itself.
    """
    chain = account.chain
    files = SessionFiles(base, chain.genesis, account.public_key)
    clerk: StatementClerk | None = None
    if batches is not None:
        kept = await trio.to_thread.run_sync(StatementFiles, base / f"{files.directory.name}{DIRECTORY_SUFFIX}")
        clerk = StatementClerk(account, P2PSigners(host), kept, batches)
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(open_pool(ChainBank(account, files), files, rules, report_closed, clerk))
        nursery = await stack.enter_async_context(trio.open_nursery())
        routes = Routes(chain, WorkerMemory(), P2PProbes(host, chain.genesis))
        nursery.start_soon(routes.run)
        if clerk is not None:
            nursery.start_soon(clerk.run)
        inference = PaidInference(InferenceParts(chain, P2PTransport(host), pool, routes, nursery, clerk))
        try:
            yield inference
        except Exception as error:
            failure = error  # raised once outside, so that the nursery does not wrap it in a group
        finally:
            await inference.finish()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
