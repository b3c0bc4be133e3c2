"""The real world of a replica: trio's clock, threads for jobs, processes for signatures, libp2p behind `Network`."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol, TypeVar

import trio

from node.replica.world import GossipMessage, Request, Response
from node.signatures.jobs import SignatureJob
from node.signatures.processes import SignatureProcesses

T = TypeVar("T")


class Network(Protocol):
    """The peers of one chain."""

    def publish(self, message: GossipMessage) -> None:
        """Send to all peers. Must not block."""

    def list_peers(self) -> list[str]:
        """Connected peers."""

    async def request(self, peer: str, request: Request) -> Response | None:
        """Ask a peer; returns None when there is no answer for any reason. Bounded in time."""

    def penalise(self, peer: str, reason: str) -> None:
        """Score a peer down."""


class LiveWorld:
    """`World` on a trio loop. `run` keeps its nursery: an exception of a callback or a job ends it."""

    def __init__(
        self,
        network: Network,
        signatures: SignatureProcesses,
        read_clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        self.read_clock_ms = read_clock_ms
        self._network = network
        self._signatures = signatures
        self._random = random.Random()
        self._nursery: trio.Nursery | None = None
        self._has_failed = False

    async def run(self, start: Callable[[], None]) -> None:
        """Call `start`, then the callbacks that it requests, until cancelled."""
        async with trio.open_nursery() as self._nursery:
            start()
            await trio.sleep_forever()

    def read_monotonic_ms(self) -> int:
        """See World."""
        return int(trio.current_time() * 1000)

    def random_below(self, bound: int) -> int:
        """See World."""
        return self._random.randrange(bound)

    def set_timer(self, delay_ms: int, then: Callable[[], None]) -> None:
        """See World."""

        async def wait() -> None:
            await trio.sleep(delay_ms / 1000)
            self._call(then)

        self._spawn(wait)

    def start_job(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        """See World. Runs in a thread; cancellation waits for the job, since it may be writing."""

        async def work() -> None:
            try:
                result = await trio.to_thread.run_sync(job)
            except BaseException:
                self._has_failed = True
                raise
            self._call(partial(then, result))

        self._spawn(work)

    def check_signatures(self, jobs: Sequence[SignatureJob], then: Callable[[list[bool]], None]) -> None:
        """See World."""

        async def check() -> None:
            answers = await self._signatures.check(jobs)
            self._call(partial(then, answers))

        self._spawn(check)

    def publish(self, message: GossipMessage) -> None:
        """See World."""
        self._network.publish(message)

    def list_peers(self) -> list[str]:
        """See World."""
        return self._network.list_peers()

    def request(self, peer: str, request: Request, then: Callable[[Response | None], None]) -> None:
        """See World."""

        async def ask() -> None:
            response = await self._network.request(peer, request)
            self._call(partial(then, response))

        self._spawn(ask)

    def penalise(self, peer: str, reason: str) -> None:
        """See World."""
        self._network.penalise(peer, reason)

    def _call(self, then: Callable[[], None]) -> None:
        """Calls back unless something has failed: the next start handles half-done work."""
        if self._has_failed:
            return
        try:
            then()
        except BaseException:
            self._has_failed = True
            raise

    def _spawn(self, task: Callable[[], Awaitable[None]]) -> None:
        assert self._nursery is not None, "the world runs before its replica does"
        self._nursery.start_soon(task)
