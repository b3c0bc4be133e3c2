"""Yamux stream multiplexer (hashicorp/yamux spec.md), in place of libp2p's own (docs/upstream.md, sections 1 to 6).

Wire format: 12-byte header (version u8, type u8, flags u16, stream u32, length u32, big-endian), then `length` bytes
of payload for DATA frames only. What differs from libp2p 0.8.1 is behaviour, not format:
 - a read may be cancelled without losing bytes, a write without tearing the connection;
 - a data frame and its header fit one Noise record;
 - credit is returned half a window at a time and wakes a waiting sender at once;
 - a sender waits for credit as long as it takes (its own caller decides when to give up);
 - a peer that sends past its credit, opens too many streams or floods control frames loses the connection;
 - a silent peer is pinged and, still silent, dropped.
No task is switched while a frame is parsed or a state changed, so no locks are needed.
"""

from __future__ import annotations

import logging
import math
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final, Self

import trio
from libp2p.abc import IMuxedConn, IMuxedStream, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamClosed,
    MuxedStreamEOF,
    MuxedStreamReset,
)
from multiaddr import Multiaddr

HEADER: Final = struct.Struct(">BBHII")
WINDOW_BYTES_INITIAL: Final = 256 * 1024
NOISE_RECORD_BYTES_MAX: Final = 65_535 - 16
PAYLOAD_BYTES_MAX: Final = NOISE_RECORD_BYTES_MAX - HEADER.size
SEND_WINDOW_BYTES_MAX: Final = 1 << 32
GO_AWAY_NORMAL: Final = 0

logger = logging.getLogger(__name__)


class FrameType(IntEnum):
    """Type byte of a frame."""

    DATA = 0
    WINDOW_UPDATE = 1
    PING = 2
    GO_AWAY = 3


class Flag(IntFlag):
    """Flag bits of a frame."""

    NONE = 0
    SYN = 1
    ACK = 2
    FIN = 4
    RST = 8


@dataclass(frozen=True, slots=True)
class YamuxLimits:
    """Bounds of one connection. The window of a stream doubles up to `window_bytes_max` while it is being read."""

    window_bytes_max: int = 4 * 1024 * 1024
    inbound_streams_max: int = 256
    pending_controls_max: int = 2048
    ping_after_s: float = 5.0
    silence_max_s: float = 15.0


class YamuxViolation(Exception):
    """The peer broke the multiplexer's rules; the connection is dropped."""


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
        self._is_read_ended = False
        self._is_write_ended = False

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
            self._readable = trio.Event()
            await self._readable.wait()
        chunk = self._chunks.popleft()
        if n is not None and 0 <= n < len(chunk):
            self._chunks.appendleft(chunk[n:])
            chunk = chunk[:n]
        self._return_credit(len(chunk))
        return chunk

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
                self._credited = trio.Event()
                await self._credited.wait()
                continue
            size = min(len(data) - start, self._send_window, PAYLOAD_BYTES_MAX)
            self._send_window -= size
            header = HEADER.pack(0, FrameType.DATA, Flag.NONE, self.stream_id, size)
            await self.muxed_conn.send(header + data[start : start + size])
            start += size

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

    def set_deadline(self, ttl: int) -> None:
        """Not part of Yamux; cancel scopes serve."""
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
        if not self._is_reset and not self._is_read_ended:
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


class YamuxConnection(IMuxedConn):
    """Many streams over one secured connection. `start` runs it until it is closed by either side."""

    def __init__(
        self,
        conn: ISecureConn,
        peer_id: ID,
        *,
        limits: YamuxLimits | None = None,
        on_established: Callable[[], None] | None = None,
    ) -> None:
        self.peer_id = peer_id
        self.limits: Final = limits or YamuxLimits()
        self.event_started = trio.Event()
        self.secured_conn: Final = conn
        self._on_established = on_established
        self._streams: dict[int, YamuxStream] = {}
        self._inbound_count = 0
        self._next_stream_id = 1 if conn.is_initiator else 2
        self._accept_send, self._accept_receive = trio.open_memory_channel[YamuxStream](math.inf)
        self._controls: deque[bytes] = deque()
        self._controls_waiting = trio.Event()
        self._scope = trio.CancelScope()
        self._cut_header = b""
        self._body_stream: YamuxStream | None = None
        self._body_flags = 0
        self._body_bytes_left = 0
        self._heard_at_s = trio.current_time()
        self._closed_because: str | None = None

    @property
    def is_initiator(self) -> bool:
        """True when this side dialed."""
        return self.secured_conn.is_initiator

    @property
    def is_established(self) -> bool:
        """True while streams can be opened."""
        return self.event_started.is_set() and not self.is_closed

    @property
    def is_closed(self) -> bool:
        """True once the connection cannot be used any more."""
        return self._closed_because is not None

    @property
    def silent_s(self) -> float:
        """Seconds since anything was heard from the peer."""
        return trio.current_time() - self._heard_at_s

    def get_transport_addresses(self) -> list[Multiaddr]:
        """Addresses of the transport below."""
        return self.secured_conn.get_transport_addresses()

    def get_connection_type(self) -> ConnectionType:
        """Direct or relayed, as the transport below says."""
        return self.secured_conn.get_connection_type()

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return (ip, port) of the other end."""
        return self.secured_conn.get_remote_address()

    async def start(self) -> None:
        """Read and write frames until the connection ends; contains every error but cancellation."""
        if self._on_established is not None:
            self._on_established()
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._send_controls)
                    nursery.start_soon(self._keep_alive)
                    self.event_started.set()
                    await self._receive_frames()
        finally:
            self._shut_down("the connection's task ended")
            await self._close_secured()

    async def close(self) -> None:
        """Say goodbye, as far as that needs no waiting, and close. Streams end with a reset. Idempotent."""
        if not self.is_closed:
            goodbye = HEADER.pack(0, FrameType.GO_AWAY, Flag.NONE, 0, GO_AWAY_NORMAL)
            with trio.CancelScope() as scope:
                scope.cancel()  # the write takes its bytes at once; only waiting for room is cut short
                await self._write(goodbye)
        self._shut_down("closed on this side")
        await self._close_secured()

    async def open_stream(self) -> YamuxStream:
        """Open a stream to the peer. Raises MuxedConnUnavailable."""
        if self.is_closed:
            raise MuxedConnUnavailable(f"connection is closed: {self._closed_because}")
        stream = YamuxStream(self._next_stream_id, self)
        self._next_stream_id += 2
        self._streams[stream.stream_id] = stream
        await self.send(HEADER.pack(0, FrameType.WINDOW_UPDATE, Flag.SYN, stream.stream_id, 0))
        return stream

    async def accept_stream(self) -> YamuxStream:
        """Wait for a stream that the peer opens. Raises MuxedConnUnavailable when the connection has ended."""
        try:
            return await self._accept_receive.receive()
        except trio.EndOfChannel as error:
            raise MuxedConnUnavailable(f"connection is closed: {self._closed_because}") from error

    async def send(self, frame: bytes) -> None:
        """Send one data or SYN frame; waits while the transport is full. Raises MuxedStreamReset."""
        if self.is_closed or not await self._write(frame):
            raise MuxedStreamReset(f"connection is closed: {self._closed_because}")

    def send_soon(self, frame_type: FrameType, flags: Flag, stream_id: int, length: int) -> None:
        """Queue a control frame without waiting; the connection is dropped when the peer lets too many pile up."""
        if self.is_closed:
            return
        if len(self._controls) >= self.limits.pending_controls_max:
            self._shut_down("too many control frames pending")
            return
        self._controls.append(HEADER.pack(0, frame_type, flags, stream_id, length))
        self._controls_waiting.set()

    def forget_if_closed(self, stream: YamuxStream) -> None:
        """Drop a stream that neither side will use any more from the books."""
        if stream.is_closed and self._streams.pop(stream.stream_id, None) is not None and self._is_inbound(stream):
            self._inbound_count -= 1

    def _is_inbound(self, stream: YamuxStream) -> bool:
        return stream.stream_id % 2 != self._next_stream_id % 2

    async def _write(self, frame: bytes) -> bool:
        try:
            await self.secured_conn.write(frame)
        except Exception as error:  # every layer below has exceptions of its own
            self._shut_down(f"write failed: {type(error).__name__}: {error}")
            return False
        return True

    async def _send_controls(self) -> None:
        while True:
            await self._controls_waiting.wait()
            self._controls_waiting = trio.Event()
            frames = b"".join(self._controls)  # at most pending_controls_max x 12 bytes: fits one record
            self._controls.clear()
            if frames and not await self._write(frames):
                return

    async def _keep_alive(self) -> None:
        ping_id = 0
        while True:
            await trio.sleep(self.limits.ping_after_s)
            if self.silent_s > self.limits.silence_max_s:
                self._shut_down(f"the peer has been silent for {self.silent_s:.1f} s")
                return
            if self.silent_s > self.limits.ping_after_s / 2:
                ping_id = (ping_id + 1) % (1 << 32)
                self.send_soon(FrameType.PING, Flag.SYN, 0, ping_id)

    async def _receive_frames(self) -> None:
        try:
            while True:
                self._take_record(await self.secured_conn.read())
        except YamuxViolation as error:
            logger.warning("connection dropped: %s", error, extra={"peer": self.peer_id.to_base58()})
            self._shut_down(str(error))
        except Exception as error:  # end of the connection, in the words of whichever layer noticed it
            self._shut_down(f"read failed: {type(error).__name__}: {error}")

    def _take_record(self, record: bytes) -> None:
        """Handle what one Noise record brings. Between records no more is kept than a cut header (< 12 bytes)."""
        self._heard_at_s = trio.current_time()
        data = self._cut_header + record if self._cut_header else record
        start = 0
        while start < len(data):
            if self._body_bytes_left:
                end = min(start + self._body_bytes_left, len(data))
                self._take_body(data[start:end])
            else:
                end = start + HEADER.size
                if end > len(data):
                    break
                self._take_header(*HEADER.unpack_from(data, start))
            start = end
        self._cut_header = data[start:]

    def _take_header(self, version: int, frame_type: int, flags: int, stream_id: int, length: int) -> None:
        if version != 0:
            raise YamuxViolation(f"version {version} is unknown")
        if frame_type in (FrameType.DATA, FrameType.WINDOW_UPDATE):
            stream = self._accept(stream_id) if flags & Flag.SYN else self._streams.get(stream_id)
            if frame_type == FrameType.DATA and length:
                if length > self.limits.window_bytes_max:
                    raise YamuxViolation(f"data frame of {length} bytes is larger than any window")
                self._body_stream, self._body_flags, self._body_bytes_left = stream, flags, length
                return
            if stream is not None:  # else: reset on this side while the frame was under way, or refused
                if length:
                    stream.take_credit(length)
                self._take_flags(stream, flags)
        elif frame_type == FrameType.PING:
            if flags & Flag.SYN:
                self.send_soon(FrameType.PING, Flag.ACK, 0, length)
        elif frame_type == FrameType.GO_AWAY:
            self._shut_down(f"the peer said goodbye with code {length}")
        else:
            raise YamuxViolation(f"frame type {frame_type} is unknown")

    def _take_body(self, part: bytes) -> None:
        self._body_bytes_left -= len(part)
        stream = self._body_stream
        if stream is None:
            return
        stream.take_data(part)
        if not self._body_bytes_left:
            self._take_flags(stream, self._body_flags)
            self._body_stream = None

    def _take_flags(self, stream: YamuxStream, flags: int) -> None:
        if flags & Flag.FIN:
            stream.take_end()
        if flags & Flag.RST:
            stream.take_reset()
        if flags & (Flag.FIN | Flag.RST):
            self.forget_if_closed(stream)

    def _accept(self, stream_id: int) -> YamuxStream | None:
        if stream_id == 0 or stream_id % 2 == self._next_stream_id % 2 or stream_id in self._streams:
            raise YamuxViolation(f"stream id {stream_id} is not the peer's to open")
        if self._inbound_count >= self.limits.inbound_streams_max:
            self.send_soon(FrameType.WINDOW_UPDATE, Flag.RST, stream_id, 0)
            return None
        stream = YamuxStream(stream_id, self)
        self._streams[stream_id] = stream
        self._inbound_count += 1
        self.send_soon(FrameType.WINDOW_UPDATE, Flag.ACK, stream_id, 0)
        self._accept_send.send_nowait(stream)
        return stream

    def _shut_down(self, because: str) -> None:
        if self._closed_because is not None:
            return
        self._closed_because = because
        for stream in self._streams.values():
            stream.take_reset()
        self._streams.clear()
        self._accept_send.close()
        self._scope.cancel()

    async def _close_secured(self) -> None:
        try:
            await self.secured_conn.close()
        except Exception as error:
            logger.debug("closing a connection failed: %s: %s", type(error).__name__, error)
