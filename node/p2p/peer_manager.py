"""Maintains connections by the address book: dials, checks a peer's chain, bounds inbound peers, drops offenders."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable

import trio

from node.machine.files import write_synced
from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.peer_book import BAN_S, PeerBook

logger = logging.getLogger("myelin.network")

ROUND_S = 1.0
SAVE_S = 60.0
RECHECK_S = 20.0
INBOUND_MAX = 256
"""Half of the host's limit: strangers that fill these places do not keep this node from dialling."""

Check = Callable[[str], Awaitable[bool]]
"""Asks a connected peer whether it is of our chain."""


class PeerManager:
    """Dials, checks and drops by the book. `run` is its only task."""

    def __init__(self, host: P2PHost, book: PeerBook, is_ours: Check, *, inbound_max: int = INBOUND_MAX) -> None:
        self._host = host
        self._book = book
        self._is_ours = is_ours
        self._inbound_max = inbound_max
        self._checked: set[str] = set()
        self._busy: set[str] = set()
        self._recheck_at_s: dict[str, float] = {}
        self._warned: set[str] = set()
        """Named peers whose failure was told."""
        self._nursery: trio.Nursery | None = None

    def penalise(self, peer: str, reason: str) -> None:
        """Count an offence; a peer banned for it is disconnected."""
        logger.warning("peer %s: %s", peer, reason)
        if self._book.blame(peer, trio.current_time()) and self._nursery is not None:
            logger.warning("peer %s is banned for %d s", peer, BAN_S)
            self._nursery.start_soon(self._host.disconnect, peer)

    def list_peers(self) -> list[str]:
        """Connected peers that are of our chain."""
        return [peer for peer in self._host.peers() if peer in self._checked]

    def learn(self, addresses: Iterable[str]) -> None:
        """Add addresses that peers told us. They are dialled while there is room, and trusted once they answer."""
        for address in addresses:
            self._book.add(address)

    async def run(self) -> None:
        """Maintain connections until cancelled; then save the book."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._save_now_and_then)
                self._host.watch(self._on_connection)
                while True:
                    self._meet_who_is_due()
                    await trio.sleep(ROUND_S)
        finally:
            self._host.watch(None)
            self._save()

    def _meet_who_is_due(self) -> None:
        assert self._nursery is not None
        connected = frozenset(self._host.peers())
        self._checked &= connected
        now_s = trio.current_time()
        self._recheck_at_s = {peer: at for peer, at in self._recheck_at_s.items() if peer in connected and at > now_s}
        outbound_count = sum(self._host.is_outbound(peer) for peer in self._checked)
        due = self._book.choose(connected, outbound_count, now_s)
        for peer in [*due, *sorted(connected - self._checked - self._recheck_at_s.keys())]:
            if peer not in self._busy:
                self._busy.add(peer)
                self._nursery.start_soon(self._meet, peer)

    def _on_connection(self, peer: str) -> None:
        """A peer connected. It is disconnected at once when it is banned or when there is no room."""
        assert self._nursery is not None
        if self._book.is_banned(peer, trio.current_time()) or self._is_too_many(peer):
            self._nursery.start_soon(self._host.disconnect, peer)
        elif peer not in self._busy | self._checked:
            self._busy.add(peer)
            self._nursery.start_soon(self._meet, peer)

    def _is_too_many(self, peer: str) -> bool:
        if self._host.is_outbound(peer) or self._book.is_named(peer):
            return False
        return sum(not self._host.is_outbound(other) for other in self._host.peers()) > self._inbound_max

    async def _meet(self, peer: str) -> None:
        """Connect to the peer if needed, and ask for its chain."""
        try:
            if self._book.is_banned(peer, trio.current_time()):
                await self._host.disconnect(peer)
                return
            if peer not in self._host.peers():
                await self._dial(peer)
            if await self._is_ours(peer):
                self._checked.add(peer)
                self._book.note_success(peer, is_dialled=self._host.is_outbound(peer))
                self._warned.discard(peer)
            else:
                await self._host.disconnect(peer)
                raise NetworkError("it is of another chain: it was started from another chain spec than this node")
        except NetworkError as error:
            self._tell_failure(peer, error)
            now_s = trio.current_time()
            self._recheck_at_s[peer] = now_s + RECHECK_S
            if peer in self._book.known:
                self._book.note_failure(peer, now_s, is_online=bool(self._checked))
        finally:
            self._busy.discard(peer)

    def _tell_failure(self, peer: str, error: NetworkError) -> None:
        """Of a peer that the operator named every failure after a success is worth a warning, and the first one."""
        if self._book.is_named(peer) and peer not in self._warned:
            self._warned.add(peer)
            logger.warning("the named peer %s is not reached, and tried again: %s", peer, error)
        else:
            logger.debug("peer %s is not reached: %s", peer, error)

    async def _dial(self, peer: str) -> None:
        failure: NetworkError | None = None
        for address in list(self._book.known[peer].addresses):
            try:
                await self._host.connect(address, timeout_s=5.0)
                return
            except NetworkError as error:
                failure = error
        raise failure or NetworkError(f"no address of {peer} is known")

    async def _save_now_and_then(self) -> None:
        while True:
            await trio.sleep(SAVE_S)
            if self._book.is_changed and self._book.path is not None:
                await trio.to_thread.run_sync(write_synced, self._book.path, self._book.encode())

    def _save(self) -> None:
        if self._book.is_changed and self._book.path is not None:
            write_synced(self._book.path, self._book.encode())
