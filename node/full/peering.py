"""A node's peers, shared by every part of it that opens a host: the address book and the peer manager."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from node.p2p.host import P2PHost
from node.p2p.peer_book import PeerBook
from node.p2p.peer_manager import PeerManager
from node.p2p.request import request
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError
from proto_specs.types.wire import STATUS_PROTOCOL, Status

STATUS_REQUEST_BYTES_MAX = 64


def open_book(path: Path, named: tuple[str, ...], host: P2PHost) -> PeerBook:
    """The saved addresses and the peers named on the command line. Raises AddressInvalid for an invalid named peer."""
    book = PeerBook(path, host.peer_id)
    book.load()
    for address in named:
        book.add(address, is_named=True)
    return book


def make_peer_manager(host: P2PHost, book: PeerBook, genesis: bytes) -> PeerManager:
    """Maintains connections to peers of this chain."""

    async def is_ours(peer: str) -> bool:
        try:
            return decode(Status, await request(host, peer, STATUS_PROTOCOL, b"")).genesis == genesis
        except DecodeError:
            return False

    return PeerManager(host, book, is_ours)


def serve_status(host: P2PHost, read: Callable[[], Status]) -> None:
    """Tell every peer that asks which chain this node is on, and its height."""

    async def answer(_body: bytes, _peer: str) -> bytes:
        return encode(read())

    host.serve_requests(
        STATUS_PROTOCOL,
        answer,
        max_request_bytes=STATUS_REQUEST_BYTES_MAX,
        max_streams_per_peer=4,
        timeout_s=10.0,
    )
