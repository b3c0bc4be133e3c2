"""Finds peers that the operator did not name: look-ups by distance (Kademlia) among the peers of one chain.

A look-up asks peers for the peers they know near a point, and asks the nearest of the answers next, until no answer is
nearer. Results go into the address book, which decides whom to stay connected to. A node tells others only of peers it
has reached at their address, or that are connected now and named a port, at the address it sees them at: so a peer
cannot have a third party dialled. Section 23 of docs/upstream.md says why this is not the library's.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Callable

import trio

from node.p2p.address import decode_address
from node.p2p.errors import AddressInvalid, NetworkError
from node.p2p.host import P2PHost
from node.p2p.peer_book import PeerBook
from node.p2p.request import request
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError, ProtocolError
from proto_specs.limits import PEERS_FOUND_MAX
from proto_specs.types.discovery import PEERS_PROTOCOL, FindPeers, PeersFound, compute_distance, compute_point

logger = logging.getLogger("myelin.network")

ASKED_AT_ONCE = 3
ASKED_MAX = 12
"""Peers asked in one look-up; each is dialled if it is not connected."""
PAUSE_S_MIN, PAUSE_S_MAX = 2.0, 60.0
REQUEST_BYTES_MAX = 256
ANSWER_BYTES_MAX = 16 << 10
TIMEOUT_S = 5.0


class OtherChain(ProtocolError):
    """The peer that asks is of another chain."""


class PeerFinder:
    """Answers and asks. `run` is its only task."""

    def __init__(self, host: P2PHost, book: PeerBook, list_peers: Callable[[], list[str]], genesis: bytes) -> None:
        self._host = host
        self._book = book
        self._list_peers = list_peers
        self._genesis = genesis
        self._came: dict[str, str] = {}
        """The addresses that connected peers say they listen at."""
        host.serve_requests(
            PEERS_PROTOCOL,
            self._answer,
            max_request_bytes=REQUEST_BYTES_MAX,
            max_streams_per_peer=2,
            timeout_s=TIMEOUT_S,
            requests_per_s=1.0,
            requests_burst=20.0,
        )

    async def run(self) -> None:
        """Look up this node and a random point, less often while it finds nothing new, until cancelled."""
        pause_s = PAUSE_S_MIN
        while True:
            before = len(self._book.known)
            for target in (compute_point(self._host.peer_id), secrets.token_bytes(32)):
                await self.look_up(target)
            is_news = len(self._book.known) > before or not self._list_peers()
            pause_s = PAUSE_S_MIN if is_news else min(PAUSE_S_MAX, 2 * pause_s)
            await trio.sleep(pause_s)

    async def look_up(self, target: bytes) -> list[str]:
        """The nearest peers to a point among those that answered or were named, nearest first. Dials at most 12."""
        before = frozenset(self._host.peers())
        asked: set[str] = set()
        known = dict.fromkeys(self._list_peers(), "")
        while len(asked) < ASKED_MAX:
            nearest = _sort(known, target)[:PEERS_FOUND_MAX]
            due = [peer for peer in nearest if peer not in asked][:ASKED_AT_ONCE]
            if not due:
                break
            asked.update(due)
            async with trio.open_nursery() as nursery:
                for peer in due:
                    nursery.start_soon(self._ask, peer, target, known)
        for peer in asked - before:
            if peer not in self._list_peers():
                await self._host.disconnect(peer)
        return _sort(known, target)[:PEERS_FOUND_MAX]

    async def _ask(self, peer: str, target: bytes, known: dict[str, str]) -> None:
        body = encode(FindPeers(self._genesis, target, self._get_port()))
        try:
            answer = await request(
                self._host,
                known[peer] or peer,
                PEERS_PROTOCOL,
                body,
                timeout_s=TIMEOUT_S,
                max_response_bytes=ANSWER_BYTES_MAX,
            )
            found = decode(PeersFound, answer)
        except (NetworkError, DecodeError) as error:
            logger.debug("peer %s tells of nobody: %s", peer, error)
            return
        seen_ip = self._host.get_remote_ip(peer)
        for address in found.addresses:
            if is_dialable(address, seen_ip) and (who := self._book.add(address)) is not None:
                known.setdefault(who, address)

    async def _answer(self, body: bytes, peer: str) -> bytes:
        question = decode(FindPeers, body)
        if question.genesis != self._genesis:
            raise OtherChain("this node is of another chain")
        connected = frozenset(self._list_peers())
        self._came = {who: where for who, where in self._came.items() if who in connected or who == peer}
        seen_ip = self._host.get_remote_ip(peer)
        if question.port and seen_ip is not None:
            self._came[peer] = write_address(seen_ip, question.port, peer)
            if peer in connected:
                self._book.add(self._came[peer])
        told = {who: addresses[0] for who, addresses in self._book.list_reached().items()}
        told |= {who: where for who, where in self._came.items() if who in connected}
        told.pop(peer, None)
        return encode(PeersFound(tuple(told[who] for who in _sort(told, question.target)[:PEERS_FOUND_MAX])))

    def _get_port(self) -> int:
        for address in self._host.addresses:
            return int(address.split("/tcp/")[1].split("/")[0])
        return 0


def _sort(peers: dict[str, str], target: bytes) -> list[str]:
    return sorted(peers, key=lambda peer: compute_distance(compute_point(peer), target))


def write_address(ip: str, port: int, peer: str) -> str:
    """A multiaddr."""
    return f"/ip{ipaddress.ip_address(ip).version}/{ip}/tcp/{port}/p2p/{peer}"


def is_dialable(address: str, teller_ip: str | None) -> bool:
    """Whether to dial an address that a peer told: numeric, and in no private network unless the peer is in one.

    Otherwise a stranger could make this node dial machines of its own network.
    """
    try:
        where, _ = decode_address(address)
    except AddressInvalid:
        return False
    parts = address.split("/")
    if where is None or parts[1] not in ("ip4", "ip6") or len(parts) != 7 or parts[3] != "tcp" or parts[5] != "p2p":
        return False
    ip = ipaddress.ip_address(parts[2])
    if ip.is_unspecified or ip.is_multicast:
        return False
    if ip.is_global:
        return True
    teller = None if teller_ip is None else ipaddress.ip_address(teller_ip)
    return teller is not None and not teller.is_global and (teller.is_loopback or not ip.is_loopback)
