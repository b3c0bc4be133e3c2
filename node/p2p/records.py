"""Noise records straight between our TCP and our multiplexer: what libp2p's layers between do, without their calls.

A record is a big-endian u16 length and that many encrypted bytes. The handshake stays libp2p's; a connection whose
transport is another (a circuit) stays on libp2p's path.
"""

from __future__ import annotations

import struct
from typing import Final

from libp2p.abc import ISecureConn
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.security.noise.io import NoiseTransportReadWriter
from libp2p.security.secure_session import SecureSession

from node.p2p.tcp import TcpStream

_LENGTH: Final = struct.Struct(">H")


class NoiseRecords:
    """The records of one secured connection. One reader; a write never waits."""

    def __init__(self, session: SecureSession, noise: NoiseTransportReadWriter, tcp: TcpStream) -> None:
        self._session = session
        self._state = noise.noise_state
        self._tcp = tcp

    async def read(self) -> bytes:
        """The content of the next record. Raises ConnectionClosedError, and the cipher's error for a forged one."""
        if self._session.high_watermark > self._session.low_watermark:
            return await self._session.read()  # what came in one record with the end of the negotiation
        sealed = await self._tcp.read_prefixed()
        if sealed is None:
            raise ConnectionClosedError("the connection has ended")
        content: bytes = self._state.decrypt(sealed)
        return content

    def write_now(self, content: bytes) -> bool:
        """Send one record if the transport takes it at once; else False. Raises ConnectionClosedError."""
        if not self._tcp.is_flushed:
            return False
        sealed: bytes = self._state.encrypt(content)
        self._tcp.write_now(_LENGTH.pack(len(sealed)) + sealed)
        return True


def find_records(conn: ISecureConn) -> NoiseRecords | None:
    """The records of a connection that is Noise over our TCP; None for any other."""
    if not isinstance(conn, SecureSession) or not isinstance(conn.conn, NoiseTransportReadWriter):
        return None
    layer: object = conn.conn
    for name in ("read_writer", "read_write_closer", "stream"):
        layer = getattr(layer, name, None)
    return NoiseRecords(conn, conn.conn, layer) if isinstance(layer, TcpStream) else None
