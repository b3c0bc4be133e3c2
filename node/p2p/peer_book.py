"""The address book: known addresses, whom to dial when, and which peers misbehave. Knows no network.

It keeps one file, `peers.json`, with addresses that worked, so that a node finds its network again when the named peers
are gone. It does not keep scores: after a restart every peer gets another chance.
"""

from __future__ import annotations

import json
import logging
import random
from dataclasses import dataclass, field
from pathlib import Path

from node.p2p.address import decode_address
from node.p2p.errors import AddressInvalid

logger = logging.getLogger("myelin.network")

KNOWN_MAX = 1_000
ADDRESSES_PER_PEER_MAX = 4
OUTBOUND_WANTED = 8
FAILURES_MAX = 10
FILE_BYTES_MAX = 1 << 20
BACKOFF_S_MIN, BACKOFF_S_MAX = 1.0, 60.0
NAMED_BACKOFF_S_MAX = 10.0
"""The longest pause between dials of a validator's own peers: after a partition they reconnect well within 20 s."""
BAN_SCORE = 10
BAN_S = 600.0
FORGIVEN_PER_S = 0.1
"""Ten offences at once, or more than one every ten seconds for long, end in a ban."""


@dataclass(slots=True)
class _KnownPeer:
    addresses: list[str]
    is_named: bool = False
    failures: int = 0
    retry_at_s: float = 0.0
    is_reached: bool = False
    """The peer was reached by dialling and is of our chain, in this run or the one that wrote the file."""


@dataclass(slots=True)
class _Score:
    offences: float = 0.0
    updated_s: float = 0.0
    banned_until_s: float = 0.0


@dataclass
class PeerBook:
    """Addresses and scores. With `path` None nothing is kept on disk."""

    path: Path | None
    own_id: str
    known: dict[str, _KnownPeer] = field(default_factory=dict)
    scores: dict[str, _Score] = field(default_factory=dict)
    is_changed: bool = False

    def load(self) -> None:
        """Read what an earlier run saved. An unreadable file counts as none."""
        if self.path is None or not self.path.exists():
            return
        try:
            with self.path.open("rb") as file:
                found = json.loads(file.read(FILE_BYTES_MAX))
            addresses = [one for one in found["addresses"] if isinstance(one, str)][:KNOWN_MAX]
        except (ValueError, KeyError, TypeError, RecursionError, OSError) as error:
            logger.warning("%s is no address book (%s): beginning with the named peers", self.path, error)
            return
        for address in addresses:
            if (peer := self.add(address)) is not None:
                self.known[peer].is_reached = True
        self.is_changed = False

    def encode(self) -> bytes:
        """The file's content: addresses of every peer that was reached."""
        reached = [one for known in self.known.values() if known.is_reached for one in known.addresses]
        self.is_changed = False
        return (json.dumps({"addresses": sorted(reached)}, indent=1) + "\n").encode()

    def add(self, address: str, *, is_named: bool = False) -> str | None:
        """Add an address; returns its peer, or None when it is skipped: invalid, our own, or no room.

        When the book is full, a never reached peer gives way. Raises AddressInvalid for an invalid named address.
        """
        try:
            where, peer = decode_address(address)
        except AddressInvalid:
            if is_named:
                raise
            return None
        if peer == self.own_id or where is None:
            return None
        if peer not in self.known and not self._make_room(is_named):
            return None
        known = self.known.setdefault(peer, _KnownPeer([]))
        known.is_named |= is_named
        if address not in known.addresses:
            known.addresses = [address, *known.addresses][:ADDRESSES_PER_PEER_MAX]
            self.is_changed |= known.is_reached
        return peer

    def _make_room(self, is_named: bool) -> bool:
        if len(self.known) < KNOWN_MAX or is_named:
            return True
        unreached = [peer for peer, known in self.known.items() if not (known.is_reached or known.is_named)]
        if unreached:
            del self.known[random.choice(unreached)]
        return bool(unreached)

    def blame(self, peer: str, now_s: float) -> bool:
        """Count an offence; returns whether the peer is banned for it."""
        score = self.scores.pop(peer, None) or _Score(updated_s=now_s)
        self.scores[peer] = score
        if len(self.scores) > KNOWN_MAX:
            del self.scores[next(iter(self.scores))]
        score.offences = max(0.0, score.offences - (now_s - score.updated_s) * FORGIVEN_PER_S) + 1
        score.updated_s = now_s
        if round(score.offences) < BAN_SCORE:  # ten within a second are ten, though some of it is forgiven already
            return False
        score.banned_until_s, score.offences = now_s + BAN_S, 0.0
        return True

    def is_banned(self, peer: str, now_s: float) -> bool:
        """Whether to refuse all contact with the peer for now."""
        return peer in self.scores and self.scores[peer].banned_until_s > now_s

    def is_named(self, peer: str) -> bool:
        """Whether the operator named the peer."""
        return peer in self.known and self.known[peer].is_named

    def choose(self, connected: frozenset[str], outbound_count: int, now_s: float) -> list[str]:
        """Whom to dial now: missing named peers, and others while fewer than 8 connections are outbound.

        Inbound connections do not count: a stranger that fills our inbound places must not choose our peers.
        """
        due = [
            peer
            for peer, known in self.known.items()
            if peer not in connected and known.retry_at_s <= now_s and not self.is_banned(peer, now_s)
        ]
        named = [peer for peer in due if self.known[peer].is_named]
        others = [peer for peer in due if not self.known[peer].is_named]
        random.shuffle(others)
        others.sort(key=lambda peer: not self.known[peer].is_reached)
        return named + others[: max(0, OUTBOUND_WANTED - outbound_count - len(named))]

    def note_failure(self, peer: str, now_s: float, *, is_online: bool) -> None:
        """A dial failed: the next one comes later each time. An unnamed peer is forgotten after ten failures, unless
        no peer at all answers."""
        known = self.known[peer]
        known.failures += 1
        pause_s_max = NAMED_BACKOFF_S_MAX if known.is_named else BACKOFF_S_MAX
        pause_s = min(pause_s_max, BACKOFF_S_MIN * 2 ** min(known.failures - 1, 10))
        known.retry_at_s = now_s + pause_s * random.uniform(0.5, 1.0)
        if known.failures >= FAILURES_MAX and is_online and not known.is_named:
            self.is_changed |= known.is_reached
            del self.known[peer]

    def note_success(self, peer: str, *, is_dialled: bool) -> None:
        """The peer is of our chain; `is_dialled`: reached at a known address."""
        if peer in self.known:
            known = self.known[peer]
            known.failures = 0
            self.is_changed |= is_dialled and not known.is_reached
            known.is_reached |= is_dialled

    def list_reached(self) -> dict[str, list[str]]:
        """Peers that were reached by dialling, with their addresses."""
        return {peer: known.addresses for peer, known in self.known.items() if known.is_reached}
