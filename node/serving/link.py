"""Typed frames over a framed stream, and which request a frame is about. Knows no request's state."""

from __future__ import annotations

import trio

from node.p2p.errors import NetworkError
from node.p2p.framing import FramedStream
from proto_specs.codec import decode_as, encode
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.types.wire import (
    Accepted,
    Countersign,
    Failed,
    Frame,
    OpenRequest,
    OutputLeaf,
    RootsFrame,
    Rows,
    Settled,
    Token,
    VoucherFrame,
)

SEND_TIMEOUT_S = 20.0
OUTBOX_FRAMES_MAX = 1024


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
        self.is_lost = False
        self._written = trio.Event()

    async def run(self) -> None:
        """Write queued frames until the link is closed or lost. Run it in a nursery beside the reader."""
        try:
            async with self._to_write:
                async for data in self._to_write:
                    with trio.fail_after(SEND_TIMEOUT_S):
                        await self._stream.send(data)
            await self._stream.close()
        except (NetworkError, trio.TooSlowError):
            self.reset("the peer takes no frames")
        finally:
            self._written.set()

    def send(self, frame: Frame) -> None:
        """Queue a frame. Raises LinkLost when the link is gone or the peer is 1024 frames behind."""
        try:
            self._outbox.send_nowait(encode(frame, Frame))
        except (trio.WouldBlock, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise LinkLost(f"peer {self.peer_id} takes no more frames") from error

    async def receive(self) -> Frame:
        """The next frame. Raises NetworkError at the end of the stream and DecodeError for garbage."""
        frame: Frame = decode_as(Frame, await self._stream.receive(), FRAME_BYTES_MAX)
        return frame

    async def finish(self) -> None:
        """Send nothing more: wait until what is queued is written, and close the stream."""
        self._outbox.close()
        await self._written.wait()

    def reset(self, reason: str) -> None:
        """Drop the stream at once."""
        self.is_lost = True
        self._stream.reset(reason)


def get_request_id(frame: Frame) -> bytes | None:
    """The request a frame belongs to; None for the frame that opens one, which carries a whole order."""
    match frame:
        case Accepted() | Failed() | Rows() | Countersign() | Token() | Settled():
            return frame.request
        case OutputLeaf():
            return frame.leaf.request
        case VoucherFrame():
            return frame.voucher.voucher.request
        case RootsFrame():
            return frame.roots[0].roots.request if frame.roots else None
        case OpenRequest():
            return None
