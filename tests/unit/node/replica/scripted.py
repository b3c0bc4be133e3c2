"""A world without IO: time that jumps, jobs done at once, and peers that answer as a test says."""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from node.replica.world import GossipMessage, Request, Response
from node.signatures.jobs import SignatureJob
from proto_specs.ed25519 import is_digest_signed

Peer = Callable[[Request], Response | None]
"""Answers a request; None: never."""

REQUEST_TIMEOUT_MS = 5_000
CLOCK_MS = 1_767_225_600_000


@dataclass
class ScriptedWorld:
    """`World` on a heap of events. `delay_ms` is how long each peer takes."""

    peers: dict[str, Peer] = field(default_factory=dict)
    delays_ms: dict[str, int] = field(default_factory=dict)
    seed: int = 0
    now_ms: int = 0
    asked: list[tuple[str, Request]] = field(default_factory=list)
    published: list[GossipMessage] = field(default_factory=list)
    penalties: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)
        self._order = itertools.count()
        self._events: list[tuple[int, int, Callable[[], None]]] = []

    def run(self, until_ms: int = 1 << 40) -> None:
        """Everything that happens until then, or until nothing does."""
        while self._events and self._events[0][0] <= until_ms:
            self.now_ms, _, then = heapq.heappop(self._events)
            then()
        self.now_ms = max(self.now_ms, until_ms) if until_ms < 1 << 40 else self.now_ms

    def read_clock_ms(self) -> int:
        return CLOCK_MS + self.now_ms

    def read_monotonic_ms(self) -> int:
        return self.now_ms

    def random_below(self, bound: int) -> int:
        return self._random.randrange(bound)

    def set_timer(self, delay_ms: int, then: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now_ms + delay_ms, next(self._order), then))

    def start_job(self, job: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self.set_timer(0, lambda: then(job()))

    def check_signatures(self, jobs: Sequence[SignatureJob], then: Callable[[list[bool]], None]) -> None:
        answers = [is_digest_signed(one.public_key, one.digest, one.signature) for one in jobs]
        self.set_timer(0, lambda: then(answers))

    def publish(self, message: GossipMessage) -> None:
        self.published.append(message)

    def list_peers(self) -> list[str]:
        return list(self.peers)

    def request(self, peer: str, request: Request, then: Callable[[Response | None], None]) -> None:
        self.asked.append((peer, request))
        answer = self.peers[peer](request) if peer in self.peers else None
        delay = REQUEST_TIMEOUT_MS if answer is None else self.delays_ms.get(peer, 10)
        self.set_timer(delay, lambda: then(answer))

    def penalise(self, peer: str, reason: str) -> None:
        self.penalties.append((peer, reason))
