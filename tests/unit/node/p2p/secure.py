"""In-memory secured connections for muxer tests: records are kept whole, every written one is remembered."""

from __future__ import annotations

from typing import Any

import trio
from libp2p.abc import ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.crypto.ed25519 import create_new_key_pair
from libp2p.crypto.keys import PrivateKey, PublicKey
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.peer.id import ID
from multiaddr import Multiaddr

KEY_PAIR = create_new_key_pair(bytes(31) + b"\1")
PEER = ID.from_pubkey(KEY_PAIR.public_key)


class MemorySecureConn(ISecureConn):
    """One end of a pair. With `room`, a writer waits while its peer has that many unread records."""

    def __init__(self, is_initiator: bool, room: float = float("inf")) -> None:
        self.is_initiator = is_initiator
        self.room = room
        self.written: list[bytes] = []
        self.records: list[bytes] = []
        self.peer: MemorySecureConn = self
        self.is_closed = False
        self.changed = trio.Event()

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def read(self, n: int | None = None) -> bytes:
        await trio.lowlevel.checkpoint()
        while not self.records:
            if self.is_closed:
                raise ConnectionClosedError("closed")
            await self.changed.wait()
        record = self.records.pop(0)
        if n is not None and n < len(record):
            self.records.insert(0, record[n:])
            record = record[:n]
        self.peer.notify()
        return record

    async def write(self, data: bytes) -> None:
        if self.is_closed:
            raise ConnectionClosedError("closed")
        self.written.append(data)
        self.peer.records.append(data)
        self.peer.notify()
        while len(self.peer.records) > self.room and not self.is_closed:
            await self.changed.wait()
        await trio.lowlevel.cancel_shielded_checkpoint()

    async def close(self) -> None:
        for end in (self, self.peer):
            end.is_closed = True
            end.notify()
        await trio.lowlevel.cancel_shielded_checkpoint()

    def get_remote_address(self) -> tuple[str, int] | None:
        return ("192.0.2.1", 1)

    def get_transport_addresses(self) -> list[Multiaddr]:
        return [Multiaddr("/ip4/192.0.2.1/tcp/1")]

    def get_connection_type(self) -> ConnectionType:
        return ConnectionType.DIRECT

    def get_local_peer(self) -> ID:
        return PEER

    def get_local_private_key(self) -> PrivateKey:
        return KEY_PAIR.private_key

    def get_remote_peer(self) -> ID:
        return PEER

    def get_remote_public_key(self) -> PublicKey:
        return KEY_PAIR.public_key


def make_secure_pair(room: float = float("inf")) -> tuple[MemorySecureConn, MemorySecureConn]:
    left, right = MemorySecureConn(True, room), MemorySecureConn(False, room)
    left.peer, right.peer = right, left
    return left, right


async def open_pair(nursery: trio.Nursery, muxer: Any, left: Any, right: Any) -> tuple[Any, Any]:
    """Start a muxer of the given class on both ends."""
    one, other = muxer(left, PEER), muxer(right, PEER)
    for end in (one, other):
        nursery.start_soon(end.start)
        await end.event_started.wait()
    return one, other
