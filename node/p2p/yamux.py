"""Yamux multiplexer (hashicorp/yamux spec.md), in place of libp2p's own (docs/upstream.md, sections 1 to 6 and 13).

What differs from libp2p 0.8.1 is behaviour, not format:
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
from collections import deque
from collections.abc import Callable
from typing import Final

import trio
from libp2p.abc import IMuxedConn, ISecureConn
from libp2p.connection_types import ConnectionType
from libp2p.peer.id import ID
from libp2p.stream_muxer.exceptions import (
    MuxedConnUnavailable,
    MuxedStreamReset,
)
from multiaddr import Multiaddr

from node.p2p.records import find_records
from node.p2p.yamux_stream import YamuxStream
from node.p2p.yamux_wire import (
    GO_AWAY_NORMAL,
    HEADER,
    Flag,
    FrameType,
    YamuxLimits,
    YamuxViolation,
)

logger = logging.getLogger(__name__)


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
        self._records = find_records(conn)
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
        """Say goodbye if that needs no waiting, and close. Streams end with a reset. Idempotent."""
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

    def send_now(self, frame: bytes) -> bool:
        """Send one small data frame, if that needs no waiting; else False."""
        if self._records is None or self.is_closed:
            return False
        try:
            return self._records.write_now(frame)
        except Exception as error:  # as in `_write`
            self._shut_down(f"write failed: {type(error).__name__}: {error}")
            return False

    def send_soon(self, frame_type: int, flags: int, stream_id: int, length: int) -> None:
        """Queue a control frame without waiting; the connection is dropped when the peer lets too many pile up."""
        if self.is_closed:
            return
        if len(self._controls) >= self.limits.pending_controls_max:
            self._shut_down("too many control frames pending")
            return
        self._controls.append(HEADER.pack(0, frame_type, flags, stream_id, length))
        self._controls_waiting.set()

    def forget_if_closed(self, stream: YamuxStream) -> None:
        """Drop a stream from the books when neither side will use it again."""
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
        read = self.secured_conn.read if self._records is None else self._records.read
        try:
            while True:
                self._take_record(await read())
        except YamuxViolation as error:
            logger.warning("connection dropped: %s", error, extra={"peer": self.peer_id.to_base58()})
            self._shut_down(str(error))
        except Exception as error:  # end of the connection, in the words of whichever layer noticed it
            self._shut_down(f"read failed: {type(error).__name__}: {error}")

    def _take_record(self, record: bytes) -> None:
        """Handle the content of one Noise record. Between records it keeps at most a partial header (< 12 bytes)."""
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
