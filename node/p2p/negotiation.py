"""multistream-select 1.0 as the opener of a stream with one protocol to offer, in one round trip instead of two.

Each message is a varint length, then text ending in a newline. The opener may send its proposal without waiting for
the greeting, since the answers come in the same order (as go-libp2p does).
"""

from __future__ import annotations

from typing import Final

from node.p2p.errors import ProtocolUnsupported, StreamReset
from node.p2p.framing import ByteStream

GREETING: Final = b"/multistream/1.0.0\n"
REFUSAL: Final = b"na\n"
MESSAGE_BYTES_MAX: Final = 1024


async def propose_protocol(stream: ByteStream, protocol: str) -> None:
    """Agree on `protocol` (at most MESSAGE_BYTES_MAX - 1 bytes) with the peer, or fail.

    Raises ProtocolUnsupported, StreamReset (also for an answer that is neither yes nor no).
    """
    proposal = protocol.encode() + b"\n"
    if len(proposal) > MESSAGE_BYTES_MAX:
        raise ValueError(f"protocol id of {len(proposal) - 1} bytes is too long")
    await stream.write(_encode(GREETING) + _encode(proposal))
    greeting = await _receive(stream)
    if greeting != GREETING:
        raise StreamReset(f"the peer greets with {greeting[:32]!r}")
    answer = await _receive(stream)
    if answer == REFUSAL:
        raise ProtocolUnsupported(f"the peer does not serve {protocol}")
    if answer != proposal:
        raise StreamReset(f"the peer answers {answer[:32]!r} to {protocol}")


def _encode(message: bytes) -> bytes:
    low, high = len(message) & 0x7F, len(message) >> 7
    return (bytes([low | 0x80, high]) if high else bytes([low])) + message


async def _receive(stream: ByteStream) -> bytes:
    length = (await _read_exactly(stream, 1))[0]
    if length & 0x80:
        high = (await _read_exactly(stream, 1))[0]
        length = (length & 0x7F) | (high << 7)
        if high & 0x80 or length > MESSAGE_BYTES_MAX:
            raise StreamReset("the peer announces an overlong answer")
    return await _read_exactly(stream, length)


async def _read_exactly(stream: ByteStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = await stream.read(size - len(data))
        if not part:
            raise StreamReset("the stream ended during negotiation")
        data += part
    return data
