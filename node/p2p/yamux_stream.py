"""One Yamux stream: its bytes, its credit in both directions, its two ends. Sends through its connection."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Self

import trio
from libp2p.abc import IMuxedStream
from libp2p.stream_muxer.exceptions import MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from node.p2p.yamux_wire import (
    HEADER,
    PAYLOAD_BYTES_MAX,
    SEND_WINDOW_BYTES_MAX,
    WINDOW_BYTES_INITIAL,
    Flag,
    FrameType,
    YamuxViolation,
)

if TYPE_CHECKING:
    from node.p2p.yamux import YamuxConnection

Sink = Callable[[bytes], bool]
"""Takes bytes that have arrived, or declines them; never waits or raises."""


class YamuxStream(IMuxedStream):
    """One stream. At most one reader and one writer at a time; both may be cancelled."""

    def __init__(self, stream_id: int, connection: YamuxConnection) -> None:
        self.stream_id: Final = stream_id
        self.muxed_conn: YamuxConnection = connection
        self._chunks: deque[bytes] = deque()
        self._readable = trio.Event()
        self._credited = trio.Event()
        self._send_window = WINDOW_BYTES_INITIAL
        self._window = WINDOW_BYTES_INITIAL
        self._credit = WINDOW_BYTES_INITIAL  # what the peer may still send
        self._consumed = 0  # read, but not yet credited back
        self._is_reset = False
        self._torn = trio.Event()
        self._is_read_ended = False
        self._is_write_ended = False
        self._sink: Sink | None = None

    @property
    def is_closed(self) -> bool:
        """True when neither side will send any more."""
        return self._is_reset or (self._is_read_ended and self._is_write_ended)

    async def read(self, n: int | None = None) -> bytes:
        """Return 1..n bytes (any number for None or -1). Raises MuxedStreamEOF, MuxedStreamReset. Safe to cancel."""
        while not self._chunks:
            if self._is_reset:
                raise MuxedStreamReset(f"stream {self.stream_id} was reset")
            if self._is_read_ended:
                raise MuxedStreamEOF(f"stream {self.stream_id} has ended")
            if self._readable.is_set():
                self._readable = trio.Event()
            await self._readable.wait()
        chunk = self._chunks.popleft()
        if n is not None and 0 <= n < len(chunk):
            self._chunks.appendleft(chunk[n:])
            chunk = chunk[:n]
        self._return_credit(len(chunk))
        return chunk

    def push_to(self, sink: Sink | None) -> None:
        """Offer what arrives to `sink`, from within the connection's task; what it declines is there to be read."""
        self._sink = sink

    async def write(self, data: bytes) -> None:
        """Send all of `data`, waiting for credit. Cancelled, it may have sent a part: reset the stream then.

        Raises MuxedStreamReset, MuxedStreamClosed.
        """
        start = 0
        while start < len(data):
            if self._is_reset:
                raise MuxedStreamReset(f"stream {self.stream_id} was reset")
            if self._is_write_ended:
                raise MuxedStreamClosed(f"stream {self.stream_id} is closed for writing")
            if not self._send_window:
                if self._credited.is_set():
                    self._credited = trio.Event()
                await self._credited.wait()
                continue
            size = min(len(data) - start, self._send_window, PAYLOAD_BYTES_MAX)
            self._send_window -= size
            header = HEADER.pack(0, FrameType.DATA, Flag.NONE, self.stream_id, size)
            await self.muxed_conn.send(header + data[start : start + size])
            start += size

    def write_now(self, data: bytes) -> bool:
        """Send `data` if it fits a frame and the peer's credit and needs no waiting; else False."""
        if self._is_reset or self._is_write_ended or len(data) > min(self._send_window, PAYLOAD_BYTES_MAX):
            return False
        if not self.muxed_conn.send_now(HEADER.pack(0, FrameType.DATA, Flag.NONE, self.stream_id, len(data)) + data):
            return False
        self._send_window -= len(data)
        return True

    async def close(self) -> None:
        """End the write side after what was written; reading goes on. Idempotent."""
        if not self._is_write_ended and not self._is_reset:
            self._is_write_ended = True
            self.muxed_conn.send_soon(FrameType.WINDOW_UPDATE, Flag.FIN, self.stream_id, 0)
            self.muxed_conn.forget_if_closed(self)
        await trio.lowlevel.checkpoint()

    async def reset(self) -> None:
        """Drop both directions; what is unread is lost. Idempotent."""
        if not self.is_closed:
            self.muxed_conn.send_soon(FrameType.WINDOW_UPDATE, Flag.RST, self.stream_id, 0)
        self._chunks.clear()
        self.take_reset()
        self.muxed_conn.forget_if_closed(self)
        await trio.lowlevel.checkpoint()

    async def wait_torn(self) -> None:
        """Return once the stream has been reset, by either side or with its connection."""
        await self._torn.wait()

    def set_deadline(self, ttl: int) -> None:
        """Not part of Yamux: use cancel scopes."""
        raise NotImplementedError("use a cancel scope")

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return (ip, port) of the connection's other end."""
        return self.muxed_conn.get_remote_address()

    async def __aenter__(self) -> Self:
        return self

    def take_data(self, payload: bytes) -> None:
        """The peer sent data. Raises YamuxViolation when it is more than the peer was credited."""
        self._credit -= len(payload)
        if self._credit < 0:
            raise YamuxViolation(f"stream {self.stream_id} overran its window by {-self._credit} bytes")
        if self._is_reset or self._is_read_ended:
            return
        if self._sink is not None and not self._chunks and self._sink(payload):
            self._return_credit(len(payload))
            return
        self._chunks.append(payload)
        self._readable.set()

    def take_credit(self, size: int) -> None:
        """The peer will take `size` more bytes. Raises YamuxViolation for an absurd window."""
        self._send_window += size
        if self._send_window > SEND_WINDOW_BYTES_MAX:
            raise YamuxViolation(f"stream {self.stream_id} was given a window of {self._send_window} bytes")
        self._credited.set()

    def take_end(self) -> None:
        """The peer will send nothing more."""
        self._is_read_ended = True
        self._readable.set()

    def take_reset(self) -> None:
        """The stream is gone; what arrived before can still be read."""
        self._is_reset = True
        self._torn.set()
        self._readable.set()
        self._credited.set()

    def _return_credit(self, size: int) -> None:
        self._consumed += size
        if self._consumed < self._window // 2 or self.is_closed or self._is_read_ended:
            return
        grown = min(self._window * 2, self.muxed_conn.limits.window_bytes_max)
        credit = self._consumed + max(0, grown - self._window)
        self._window = max(self._window, grown)
        self._consumed = 0
        self._credit += credit
        self.muxed_conn.send_soon(FrameType.WINDOW_UPDATE, Flag.NONE, self.stream_id, credit)
