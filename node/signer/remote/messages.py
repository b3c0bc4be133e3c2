"""Messages between node and signer process: canonical records behind a u32 length. Opens no sockets.

The client speaks first and gets one answer to each request. The first request is `Hello`. The socket's file
permissions say who may connect; there is no TCP, since nothing here proves the identity of the other end.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Annotated

from proto_specs.codec import U8, U32, U64, Max, decode_as, encode, variant
from proto_specs.errors import DecodeError
from proto_specs.types.chain import Vote
from proto_specs.types.common import Hash32, PublicKey, Signature

FRAME_BYTES_MAX = 64 << 10
PAYLOAD_BYTES_MAX = 1 << 10
"""Bytes of a signed payload: headers of votes and proposals, never a block."""
VOTES_MAX = 32
PROOF_BYTES_MAX = 80
REASON_BYTES_MAX = 1 << 10
_HEAD = struct.Struct(">I")


@variant(1)
class Hello:
    """The first request: which chain the node is on."""

    genesis: Hash32


@variant(2)
class AskSignature:
    """Requests a signature for a slot of `Slot`."""

    height: U64
    round: U32
    slot: U8
    payload: Annotated[bytes, Max(PAYLOAD_BYTES_MAX)]


@variant(3)
class AskVotes:
    """Requests the remembered votes of a height."""

    height: U64


@variant(4)
class AskSigned:
    """Asks whether this signer made a vote, as far as it can tell."""

    vote: Vote


@variant(5)
class AskProof:
    """Requests a header's VRF proof."""

    previous: Hash32
    height: U64


@variant(1)
class Welcome:
    """Answers `Hello` with the signer's key."""

    key: PublicKey


@variant(2)
class Signed:
    """A signature; it is on disk before it is sent."""

    signature: Signature


@variant(3)
class Votes:
    """Votes in order of their slots."""

    votes: Annotated[tuple[Vote, ...], Max(VOTES_MAX)]


@variant(4)
class Found:
    """Yes or no."""

    is_so: bool


@variant(5)
class ServerProof:
    """A VRF proof of 80 bytes."""

    proof: Annotated[bytes, Max(PROOF_BYTES_MAX)]


@variant(6)
class Refused:
    """The signer will never sign this: `SignRefused`."""

    reason: Annotated[str, Max(REASON_BYTES_MAX)]


@variant(7)
class Unfit:
    """The signer cannot serve this client at all: it is on another chain, or another client is connected."""

    reason: Annotated[str, Max(REASON_BYTES_MAX)]


Ask = Hello | AskSignature | AskVotes | AskSigned | AskProof
Answer = Welcome | Signed | Votes | Found | ServerProof | Refused | Unfit


def send(stream: socket.socket, message: object, as_type: object) -> None:
    """Send one record. Raises OSError."""
    payload = encode(message, as_type)
    stream.sendall(_HEAD.pack(len(payload)) + payload)


def receive_ask(stream: socket.socket, within_s: float) -> Ask | None:
    """The next request; None at the end of the stream. Raises OSError (TimeoutError), DecodeError."""
    data = _receive(stream, within_s)
    found: Ask | None = None if data is None else decode_as(Ask, data)
    return found


def receive_answer(stream: socket.socket, within_s: float) -> Answer:
    """The next answer. Raises OSError (ConnectionError at the end of the stream, TimeoutError), DecodeError."""
    data = _receive(stream, within_s)
    if data is None:
        raise ConnectionError("it hung up")
    found: Answer = decode_as(Answer, data)
    return found


def _receive(stream: socket.socket, within_s: float) -> bytes | None:
    until_s = time.monotonic() + within_s
    head = _read(stream, _HEAD.size, until_s)
    if head is None:
        return None
    (length,) = _HEAD.unpack(head)
    if length > FRAME_BYTES_MAX:
        raise DecodeError(f"a frame of {length} bytes")
    return _read(stream, length, until_s)


def _read(stream: socket.socket, size: int, until_s: float) -> bytes | None:
    """Exactly `size` bytes; None when the stream ends before. The deadline holds for slow senders too."""
    data = bytearray()
    while len(data) < size:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        stream.settimeout(left_s)
        part = stream.recv(size - len(data))
        if not part:
            return None
        data += part
    return bytes(data)
