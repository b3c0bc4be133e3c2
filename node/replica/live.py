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
        """To everybody; must not block."""

    def list_peers(self) -> list[str]:
        """Connected peers."""

    async def request(self, peer: str, request: Request) -> Response | None:
        """Ask one peer; None for whatever reason there is no answer. Bounded in time."""

    def penalise(self, peer: str, reason: str) -> None:
        """Score a peer down."""


class Alone:
    """The network of a node without one."""

    def publish(self, message: GossipMessage) -> None:
        """There is nobody to send to."""

    def list_peers(self) -> list[str]:
        """None."""
        return []

    async def request(self, peer: str, request: Request) -> Response | None:
        """Nobody answers."""
        return None

    def penalise(self, peer: str, reason: str) -> None:
        """There is nobody to blame."""


class LiveWorld:
    """`World` on a trio loop. `run` keeps its nursery: what a callback or a job raises ends it."""

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
        """Call `start`, then whatever it asked to be called with, until cancelled."""
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
        """See World. In a thread; cancellation waits for it, since it may be writing."""

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
        """Nothing is called any more once something has failed: half-done work is for the next start to sort out."""
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
