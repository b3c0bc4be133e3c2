"""Which chunk of a snapshot, or of a unit of weights, to ask which peer for next.

Sans-IO: no clock, no network, no disk; peers may lie. A peer has at most two requests under way. A chunk is asked of
one peer, and of a second one when it has not arrived after STALL_MS. A chunk with a wrong hash drops its peer from the
download at once; so do FAILURES_MAX requests without an answer, each after a longer pause. A bad peer therefore hurts
only itself, and delays a chunk by a few seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

REQUESTS_PER_PEER = 2
FETCHES_PER_CHUNK = 2
STALL_MS = 5_000
FAILURES_MAX = 3
PAUSE_MS = 1_000


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask `peer` for chunk `index`; `number` tells requests apart."""

    number: int
    peer: str
    index: int
    began_ms: int


@dataclass(slots=True)
class _DownloadPeer:
    under_way: int = 0
    failures: int = 0
    ready_ms: int = 0


class Download:
    """The chunks of one item. Times are of any monotonic clock, in milliseconds."""

    def __init__(
        self,
        hashes: Sequence[bytes],
        present: Collection[int],
        peers: Iterable[str],
        hash_chunk: Callable[[bytes], bytes],
    ) -> None:
        """`present` are the verified chunks that an earlier attempt left."""
        self._hashes = hashes
        self._hash_chunk = hash_chunk
        self._missing = [index for index in range(len(hashes)) if index not in present]
        self._fetches: dict[int, list[Fetch]] = {}
        self._peers: dict[str, _DownloadPeer] = {}
        self._banned: set[str] = set()
        self._next_number = 1
        for peer in peers:
            self.add_peer(peer)

    @property
    def is_done(self) -> bool:
        """Whether every chunk is there."""
        return not self._missing

    @property
    def is_stuck(self) -> bool:
        """Whether chunks are missing and no peer is left to ask."""
        return not self.is_done and not self._peers

    def is_missing(self, index: int) -> bool:
        """Whether this chunk is still missing."""
        return index in self._missing

    @property
    def missing_count(self) -> int:
        """The missing chunks."""
        return len(self._missing)

    def add_peer(self, peer: str) -> None:
        """Add a peer that has the item. A dropped peer stays dropped."""
        if peer not in self._banned:
            self._peers.setdefault(peer, _DownloadPeer())

    def assign(self, now_ms: int) -> list[Fetch]:
        """New requests to make now."""
        made: list[Fetch] = []
        while True:
            ready = [
                name
                for name, one in self._peers.items()
                if one.under_way < REQUESTS_PER_PEER and one.ready_ms <= now_ms
            ]
            ready.sort(key=lambda name: (self._peers[name].failures, self._peers[name].under_way))
            fetch = next((one for name in ready if (one := self._make(name, now_ms)) is not None), None)
            if fetch is None:
                return made
            made.append(fetch)

    def compute_wake_ms(self, now_ms: int) -> int:
        """The time at which `assign` may return more even if no answer has come."""
        pauses = [one.ready_ms for one in self._peers.values() if one.ready_ms > now_ms]
        stalls = [fetches[0].began_ms + STALL_MS for fetches in self._fetches.values() if fetches]
        return min([*pauses, *(one for one in stalls if one > now_ms)], default=now_ms + STALL_MS)

    def is_right(self, fetch: Fetch, data: bytes | None) -> bool:
        """Whether these are the chunk's bytes."""
        return data is not None and self._hash_chunk(data) == self._hashes[fetch.index]

    def take_chunk(self, fetch: Fetch, data: bytes | None) -> bool:
        """Whether the answer is a missing chunk with the right hash, to be kept. A wrong one drops the peer for good.

        None: the peer does not have the chunk; it is not asked again.
        """
        self._end(fetch)
        if not self.is_right(fetch, data):
            self._drop(fetch.peer)
            return False
        if fetch.index not in self._missing:
            return False
        self._missing.remove(fetch.index)
        if fetch.peer in self._peers:
            self._peers[fetch.peer].failures = 0
        return True

    def take_failure(self, fetch: Fetch, now_ms: int) -> None:
        """A request got no answer: refused, torn, or too late."""
        self._end(fetch)
        peer = self._peers.get(fetch.peer)
        if peer is None:
            return
        peer.failures += 1
        peer.ready_ms = now_ms + PAUSE_MS * peer.failures
        if peer.failures >= FAILURES_MAX:
            self._drop(fetch.peer)

    def is_dropped(self, peer: str) -> bool:
        """Whether this peer is dropped."""
        return peer in self._banned

    def _make(self, peer: str, now_ms: int) -> Fetch | None:
        index = self._find_chunk(peer, now_ms)
        if index is None:
            return None
        fetch = Fetch(self._next_number, peer, index, now_ms)
        self._next_number += 1
        self._fetches.setdefault(index, []).append(fetch)
        self._peers[peer].under_way += 1
        return fetch

    def _find_chunk(self, peer: str, now_ms: int) -> int | None:
        """The first chunk that is asked of no peer; else the first that another peer owes for too long."""
        stalled: int | None = None
        for index in self._missing:
            fetches = self._fetches.get(index)
            if not fetches:
                return index
            is_late = fetches[-1].began_ms + STALL_MS <= now_ms
            is_others = all(one.peer != peer for one in fetches)
            if stalled is None and is_late and is_others and len(fetches) < FETCHES_PER_CHUNK:
                stalled = index
        return stalled

    def _end(self, fetch: Fetch) -> None:
        fetches = self._fetches.get(fetch.index, [])
        if fetch in fetches:
            fetches.remove(fetch)
            if fetch.peer in self._peers:
                self._peers[fetch.peer].under_way -= 1

    def _drop(self, peer: str) -> None:
        self._peers.pop(peer, None)
        self._banned.add(peer)
        for fetches in self._fetches.values():
            fetches[:] = [one for one in fetches if one.peer != peer]
