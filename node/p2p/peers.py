"""Whom to stay connected to: named peers for ever, known ones while there is room; who misbehaves is left for a while.

Kept in one file, `peers.json`: addresses that worked, so that a node finds its network again when the named peers are
gone. Scores are not kept: a node that starts anew gives everybody another chance.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

from node.p2p.address import decode_address
from node.p2p.errors import AddressInvalid, NetworkError
from node.p2p.host import P2PHost
from node.serving.disk import write_synced

logger = logging.getLogger("myelin.network")

KNOWN_MAX = 1_000
ADDRESSES_PER_PEER_MAX = 4
OUTBOUND_WANTED = 8
ROUND_S = 1.0
BACKOFF_S_MIN, BACKOFF_S_MAX = 1.0, 60.0
BAN_SCORE = 10
BAN_S = 600.0
FORGIVEN_PER_S = 0.1
"""Ten offences at once, or one every ten seconds on top of that, end in a ban."""

Check = Callable[[str], Awaitable[bool]]
"""Asks a connected peer whether it is of our chain."""


@dataclass(slots=True)
class _Known:
    addresses: list[str]
    is_named: bool = False
    failures: int = 0
    retry_at_s: float = 0.0
    is_checked: bool = False


@dataclass(slots=True)
class _Score:
    offences: float = 0.0
    updated_s: float = 0.0
    banned_until_s: float = 0.0


@dataclass
class PeerBook:
    """Addresses and conduct. `path` None: nothing is kept on disk."""

    path: Path | None
    own_id: str
    known: dict[str, _Known] = field(default_factory=dict)
    scores: dict[str, _Score] = field(default_factory=dict)

    def load(self) -> None:
        """What an earlier run knew. A file that cannot be read is as good as none."""
        if self.path is None or not self.path.exists():
            return
        try:
            found = json.loads(self.path.read_text("utf-8"))
            addresses = [one for one in found["addresses"] if isinstance(one, str)][:KNOWN_MAX]
        except (ValueError, KeyError, TypeError, OSError) as error:
            logger.warning("%s is no address book (%s): beginning with the named peers", self.path, error)
            return
        for address in addresses:
            self.add(address)

    def save(self) -> None:
        """Addresses of everybody who was reached."""
        if self.path is not None:
            reached = [one for known in self.known.values() if known.is_checked for one in known.addresses]
            write_synced(self.path, (json.dumps({"addresses": sorted(reached)}, indent=1) + "\n").encode())

    def add(self, address: str, *, is_named: bool = False) -> None:
        """Know an address; invalid ones and our own are passed over, named ones raise AddressInvalid."""
        try:
            where, peer = decode_address(address)
        except AddressInvalid:
            if is_named:
                raise
            return
        if peer == self.own_id or where is None or (len(self.known) >= KNOWN_MAX and not is_named):
            return
        known = self.known.setdefault(peer, _Known([]))
        known.is_named |= is_named
        if address not in known.addresses:
            known.addresses = [address, *known.addresses][:ADDRESSES_PER_PEER_MAX]

    def blame(self, peer: str, now_s: float) -> bool:
        """Count an offence; whether the peer is banned for it."""
        score = self.scores.setdefault(peer, _Score(updated_s=now_s))
        score.offences = max(0.0, score.offences - (now_s - score.updated_s) * FORGIVEN_PER_S) + 1
        score.updated_s = now_s
        if score.offences < BAN_SCORE:
            return False
        score.banned_until_s, score.offences = now_s + BAN_S, 0.0
        while len(self.scores) > KNOWN_MAX:
            del self.scores[next(iter(self.scores))]
        return True

    def is_banned(self, peer: str, now_s: float) -> bool:
        """Whether to have nothing to do with it for now."""
        return peer in self.scores and self.scores[peer].banned_until_s > now_s

    def choose(self, connected: frozenset[str], now_s: float) -> list[str]:
        """Whom to dial now: named peers that are missing, and others while fewer than 8 are connected."""
        due = [
            peer
            for peer, known in self.known.items()
            if peer not in connected and known.retry_at_s <= now_s and not self.is_banned(peer, now_s)
        ]
        named = [peer for peer in due if self.known[peer].is_named]
        others = [peer for peer in due if not self.known[peer].is_named]
        return named + others[: max(0, OUTBOUND_WANTED - len(connected) - len(named))]

    def note_failure(self, peer: str, now_s: float) -> None:
        """It did not answer: later, and later each time; a peer nobody named is forgotten after ten times."""
        known = self.known[peer]
        known.failures += 1
        pause_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2 ** min(known.failures - 1, 10))
        known.retry_at_s = now_s + pause_s * random.uniform(0.5, 1.0)
        if known.failures >= 10 and not known.is_named:
            del self.known[peer]

    def note_success(self, peer: str) -> None:
        """It is one of us."""
        if peer in self.known:
            self.known[peer].failures = 0
            self.known[peer].is_checked = True


class PeerKeeper:
    """Dials, checks and drops by the book. `run` is its only task."""

    def __init__(self, host: P2PHost, book: PeerBook, is_ours: Check) -> None:
        self._host = host
        self._book = book
        self._is_ours = is_ours
        self._checked: set[str] = set()
        self._busy: set[str] = set()
        self._nursery: trio.Nursery | None = None

    def penalise(self, peer: str, reason: str) -> None:
        """Count an offence; who is banned for it is disconnected."""
        logger.warning("peer %s: %s", peer, reason)
        if self._book.blame(peer, trio.current_time()) and self._nursery is not None:
            logger.warning("peer %s is banned for %d s", peer, BAN_S)
            self._nursery.start_soon(self._host.disconnect, peer)

    def list_peers(self) -> list[str]:
        """Connected peers that are of our chain."""
        return [peer for peer in self._host.peers() if peer in self._checked]

    async def run(self) -> None:
        """Keep connections until cancelled."""
        async with trio.open_nursery() as self._nursery:
            while True:
                connected = frozenset(self._host.peers())
                self._checked &= connected
                now_s = trio.current_time()
                for peer in [*self._book.choose(connected, now_s), *(connected - self._checked)]:
                    if peer not in self._busy:
                        self._busy.add(peer)
                        self._nursery.start_soon(self._meet, peer)
                await trio.sleep(ROUND_S)

    async def _meet(self, peer: str) -> None:
        """Connect where we are not, and ask whose it is."""
        try:
            if self._book.is_banned(peer, trio.current_time()):
                await self._host.disconnect(peer)
                return
            if peer not in self._host.peers():
                await self._dial(peer)
            if await self._is_ours(peer):
                self._checked.add(peer)
                self._book.note_success(peer)
            else:
                logger.info("peer %s is of another chain", peer)
                await self._host.disconnect(peer)
                raise NetworkError("another chain")
        except NetworkError as error:
            logger.debug("peer %s is not reached: %s", peer, error)
            if peer in self._book.known:
                self._book.note_failure(peer, trio.current_time())
        finally:
            self._busy.discard(peer)

    async def _dial(self, peer: str) -> None:
        failure: NetworkError | None = None
        for address in list(self._book.known[peer].addresses):
            try:
                await self._host.connect(address, timeout_s=5.0)
                return
            except NetworkError as error:
                failure = error
        raise failure or NetworkError(f"no address of {peer} is known")
