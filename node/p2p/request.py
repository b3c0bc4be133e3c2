"""One-shot request and response over a stream of their own; bodies of any size travel in bounded frames.

A body is a head frame (status u8, length u64, big-endian) and then its bytes in frames of CHUNK_BYTES, so a response
of tens of MB needs no large frame and its announced length is checked before any of it is read. The opener sends one
body with status REQUEST and receives one with OK or REFUSED; for REFUSED the body is a short UTF-8 reason.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

import trio

from node.machine.rate import RateLimit
from node.p2p.errors import FrameTooLarge, NetworkError, RequestRefused, RequestTimedOut
from node.p2p.framing import FramedStream
from proto_specs.errors import DecodeError, ProtocolError

if TYPE_CHECKING:
    from node.p2p.host import P2PHost

CHUNK_BYTES: Final = 256 * 1024
REASON_BYTES_MAX: Final = 512
REQUESTS_PER_S: Final = 100.0
REQUESTS_BURST: Final = 400.0
RATE_WAIT_S_MAX: Final = 1.0
"""The requests a peer may make on one protocol. A faster peer waits up to a second, then is refused."""

STATUS_REQUEST: Final = 0
STATUS_OK: Final = 1
STATUS_REFUSED: Final = 2

_HEAD: Final = struct.Struct(">BQ")

RequestHandler = Callable[[bytes, str], Awaitable[bytes]]
"""Answers one request: (body, peer id) -> response body. Raises ProtocolError to refuse it with a reason."""

logger = logging.getLogger(__name__)


async def request(
    host: P2PHost,
    peer: str,
    protocol: str,
    body: bytes,
    *,
    timeout_s: float = 10.0,
    max_response_bytes: int = 8 * 1024 * 1024,
) -> bytes:
    """Send one request to a peer (address or connected peer id) and return the whole response.

    Raises RequestTimedOut, RequestRefused, FrameTooLarge (response over `max_response_bytes`), PeerUnreachable,
    ProtocolUnsupported, StreamReset, AddressInvalid; DecodeError when the peer's answer is malformed.
    """
    try:
        with trio.fail_after(timeout_s):
            stream = await host.open_stream(peer, protocol, timeout_s=timeout_s, max_frame_bytes=CHUNK_BYTES)
            async with stream:
                await _send_body(stream, STATUS_REQUEST, body)
                status, response = await _receive_body(stream, max_response_bytes)
    except trio.TooSlowError as error:
        raise RequestTimedOut(f"{peer} did not answer {protocol} within {timeout_s} s") from error
    if status == STATUS_OK:
        return response
    if status == STATUS_REFUSED:
        raise RequestRefused(response[:REASON_BYTES_MAX].decode("utf-8", "replace"))
    raise DecodeError(f"response status {status} of {protocol} is unknown")


def serve_requests(
    host: P2PHost,
    protocol: str,
    handler: RequestHandler,
    *,
    max_request_bytes: int,
    max_streams_per_peer: int,
    timeout_s: float,
    requests_per_s: float = REQUESTS_PER_S,
    requests_burst: float = REQUESTS_BURST,
) -> None:
    """Answer requests of a protocol with `handler`, one stream each; `timeout_s` bounds a whole exchange.

    A handler that raises ProtocolError refuses the request with the error's text; any other exception is logged and
    refused without detail. Each peer has its own bucket of `requests_per_s` and `requests_burst`.
    """
    rate = RateLimit(requests_per_s, requests_burst)

    async def on_stream(stream: FramedStream, peer_id: str) -> None:
        with trio.move_on_after(timeout_s) as scope:
            wait_s = rate.take_within(peer_id, 1, trio.current_time(), RATE_WAIT_S_MAX)
            if wait_s is None:
                await _send_body(stream, STATUS_REFUSED, b"too many requests")
                return
            await trio.sleep(wait_s)
            status, body = await _receive_body(stream, max_request_bytes)
            if status != STATUS_REQUEST:
                raise DecodeError(f"request status {status} is not {STATUS_REQUEST}")
            await _send_body(stream, *await _answer(handler, body, peer_id, protocol))
        if scope.cancelled_caught:
            raise RequestTimedOut(f"the exchange was not over within {timeout_s} s")

    host.serve(protocol, on_stream, max_frame_bytes=CHUNK_BYTES, max_streams_per_peer=max_streams_per_peer)


async def _answer(handler: RequestHandler, body: bytes, peer_id: str, protocol: str) -> tuple[int, bytes]:
    try:
        return STATUS_OK, await handler(body, peer_id)
    except ProtocolError as error:
        return STATUS_REFUSED, f"{type(error).__name__}: {error}".encode()[:REASON_BYTES_MAX]
    except NetworkError as error:
        logger.warning("request refused: %s: %s", type(error).__name__, error, extra={"peer": peer_id})
        return STATUS_REFUSED, b"the peer's own network failed"
    except Exception:
        logger.exception("request refused: its handler failed", extra={"peer": peer_id, "protocol": protocol})
        return STATUS_REFUSED, b"internal error"


async def _send_body(stream: FramedStream, status: int, body: bytes) -> None:
    await stream.send(_HEAD.pack(status, len(body)))
    with memoryview(body) as view:
        for start in range(0, len(body), CHUNK_BYTES):
            await stream.send(view[start : start + CHUNK_BYTES])


async def _receive_body(stream: FramedStream, body_bytes_max: int) -> tuple[int, bytes]:
    head = await stream.receive()
    if len(head) != _HEAD.size:
        raise DecodeError(f"head of {len(head)} bytes, expected {_HEAD.size}")
    status, length = _HEAD.unpack(head)
    if length > body_bytes_max:
        raise FrameTooLarge(f"body of {length} bytes announced, limit is {body_bytes_max}")
    chunks: list[bytes] = []
    missing = length
    while missing:
        chunk = await stream.receive()
        if len(chunk) != min(missing, CHUNK_BYTES):
            raise DecodeError(f"chunk of {len(chunk)} bytes where {min(missing, CHUNK_BYTES)} were due")
        chunks.append(chunk)
        missing -= len(chunk)
    return status, b"".join(chunks)
