"""Typed frames over a framed stream, and the request that a frame belongs to. Knows no request's state."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import trio

from node.p2p.errors import NetworkError
from node.p2p.framing import FramedStream
from proto_specs.codec import decode_as, encode
from proto_specs.limits import FAILURE_TEXT_BYTES_MAX, FRAME_BYTES_MAX, KIB, MIB
from proto_specs.types.wire import (
    Accepted,
    Countersign,
    Failed,
    FailureCode,
    Frame,
    OpenRequest,
    OutputLeaf,
    Ping,
    Pong,
    PrefixRoots,
    PromiseFrame,
    PromptLogprobs,
    RootsFrame,
    Rows,
    Settled,
    Token,
    VoucherFrame,
)

SEND_TIMEOUT_S = 20.0
OUTBOX_FRAMES_MAX = 4096
TOGETHER_BYTES = 32 * KIB
"""Queued frames are written together up to about so much."""
OUTBOX_BYTES_MAX = 256 * MIB
"""Bytes that a peer may fall behind: a slow or stopped reader costs this much memory and no more."""


class LinkLost(NetworkError):
    """The other end of a link is gone or does not take frames."""


class FrameLink:
    """Sends and receives `Frame` values on one stream; one task at a time may receive, any may send.

    `send` queues; the writer task inside `run` keeps the order. A peer that does not take a frame for 20 s is lost.
    """

    def __init__(self, stream: FramedStream, peer_id: str) -> None:
        self.peer_id = peer_id
        self._stream = stream
        self._outbox, self._to_write = trio.open_memory_channel[bytes](OUTBOX_FRAMES_MAX)
        self._queued_bytes = 0
        self._last_request: bytes | None = None
        self._is_running = False
        self.is_lost = False
        self._written = trio.Event()

    @property
    def is_written(self) -> bool:
        """Whether the writer has ended: all that was queued is written, or lost."""
        return self._written.is_set()

    async def run(self) -> None:
        """Write queued frames until the link is closed or lost. Run it in a nursery beside the reader."""
        self._is_running = True
        try:
            async with self._to_write:
                async for data in self._to_write:
                    together = self._gather(data)
                    with trio.fail_after(SEND_TIMEOUT_S):
                        await self._stream.send_together(together)
                    self._queued_bytes -= sum(map(len, together))
            await self._stream.close()
        except (NetworkError, trio.TooSlowError):
            self.reset("the peer takes no frames")
        finally:
            self._is_running = False
            self._written.set()

    def _gather(self, first: bytes) -> list[bytes]:
        """What is queued by now and costs one write: many requests make many small frames on one link."""
        together, size = [first], len(first)
        while size < TOGETHER_BYTES:
            try:
                data = self._to_write.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            together.append(data)
            size += len(data)
        return together

    def send(self, frame: Frame) -> None:
        """Queue a frame. Raises LinkLost when the link is gone or the peer is too far behind."""
        data = encode(frame, Frame)
        if self._is_free_to_write(frame) and self._stream.send_now(data):
            return
        if self._queued_bytes + len(data) > OUTBOX_BYTES_MAX:
            self.reset("the peer is too far behind")
        try:
            if self.is_lost:
                raise trio.ClosedResourceError
            self._outbox.send_nowait(data)
        except trio.WouldBlock as error:
            self.reset("the peer is too far behind")
            raise LinkLost(f"peer {self.peer_id} is {OUTBOX_FRAMES_MAX} frames behind") from error
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkLost(f"peer {self.peer_id} takes no more frames") from error
        self._queued_bytes += len(data)

    def _is_free_to_write(self, frame: Frame) -> bool:
        """Whether a frame may go out at once: nothing is before it, and the link is one request's.

        The frames of several requests come together and belong in one write, so that the peer computes them together.
        """
        request, before = get_request_id(frame), self._last_request
        self._last_request = request
        return request == before and not self._queued_bytes and self._is_running and not self.is_lost

    async def receive(self) -> Frame:
        """The next frame. Raises NetworkError at the end of the stream and DecodeError for garbage."""
        frame: Frame = decode_as(Frame, await self._stream.receive(), FRAME_BYTES_MAX)
        return frame

    async def receive_each(self, take: Callable[[Frame], None]) -> NoReturn:
        """Hand every frame to `take` as it arrives. Raises as `receive`, and what `take` raises."""
        await self._stream.consume(lambda data: take(decode_as(Frame, data, FRAME_BYTES_MAX)))

    async def finish(self) -> None:
        """End the link in order: wait until queued frames are written, then close the stream."""
        self._outbox.close()
        self._is_running = False
        await self._written.wait()

    def reset(self, reason: str) -> None:
        """Drop the stream at once."""
        self.is_lost = True
        self._stream.reset(reason)


def make_failed(request: bytes, code: FailureCode, message: str, lost: int | None = None) -> Failed:
    """A failure frame, with its message cut to a frame's limit, since messages quote text of any length from others."""
    return Failed(request, code, message.encode()[:FAILURE_TEXT_BYTES_MAX].decode(errors="ignore"), lost)


def get_request_id(frame: Frame) -> bytes | None:
    """The request a frame belongs to; None for the frame that opens one, which carries a whole order."""
    match frame:
        case Accepted() | Failed() | Rows() | Countersign() | Token() | Settled() | PromptLogprobs() | Ping() | Pong():
            return frame.request
        case OutputLeaf():
            return frame.leaf.request
        case VoucherFrame() | PromiseFrame():
            return frame.voucher.voucher.request
        case RootsFrame() | PrefixRoots():
            return frame.roots[0].roots.request if frame.roots else None
        case OpenRequest():
            return None
