"""Whole messages over one byte stream: length-prefixed frames, bounded queue, heartbeat. Knows nothing of libp2p.

A frame is a big-endian u32 length and that many bytes. An empty frame is a heartbeat and is never delivered.

The reader task is the only one that reads the byte stream, and it never stops because a consumer timed out:
callers wait on this object's queue, which may be cancelled at will without losing a byte. When the queue is full
the reader pauses, so the muxer's flow control holds the sender back; a consumer that leaves it full for
`consumer_stall_s` loses the stream. A send that is cancelled half way resets the stream, because the peer would
otherwise read the next frame as the rest of this one.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NoReturn, Protocol, Self

import trio

from node.p2p.errors import FrameTooLarge, NetworkError, PeerUnreachable, ReceiverStalled, StreamClosed, StreamReset
from node.p2p.frame_decoder import HEADER, FrameDecoder

HEARTBEAT: Final = bytes(HEADER.size)
READ_BYTES: Final = 256 * 1024
RESET_TIMEOUT_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Bounds of one framed stream.

    `frame_bytes_max` is the largest payload accepted or sent. `queue_bytes_max` is how much received payload may wait
    for the consumer before the reader pauses (one frame more can be in hand). `heartbeat_s` is how long this side
    stays silent before it sends an empty frame; `dead_peer_s` how long the other side may be silent before it counts
    as gone; `consumer_stall_s` how long a full queue is borne. `linger_s` bounds how long a closed stream waits for
    the peer to finish too.
    """

    frame_bytes_max: int = 1024 * 1024
    queue_bytes_max: int = 4 * 1024 * 1024
    heartbeat_s: float = 1.0
    dead_peer_s: float = 5.0
    consumer_stall_s: float = 30.0
    linger_s: float = 5.0

    def __post_init__(self) -> None:
        if not 0 < self.frame_bytes_max < 1 << 32:
            raise ValueError(f"frame_bytes_max {self.frame_bytes_max} does not fit a u32 length")
        if self.queue_bytes_max <= 0:
            raise ValueError("queue_bytes_max must be positive")
        if not 0 < self.heartbeat_s < self.dead_peer_s:
            raise ValueError("heartbeat_s must be positive and shorter than dead_peer_s")


class ByteStream(Protocol):
    """What a framed stream needs from the transport below it."""

    async def read(self, limit: int) -> bytes:
        """Return 1..limit bytes, or b"" at the end; raise StreamReset when torn."""

    def push_to(self, sink: Callable[[bytes], bool] | None) -> None:
        """Offer what arrives to `sink`, which answers whether it took it; what it declines is there to be read."""

    async def write(self, data: bytes) -> None:
        """Write all of `data`; raise StreamReset when torn."""

    def write_now(self, data: bytes) -> bool:
        """Write all of `data` if that needs no waiting; else False, and nothing was written."""

    async def finish(self) -> None:
        """Tell the peer that this side writes nothing more. Reading goes on."""

    async def reset(self) -> None:
        """Drop the stream in both directions; never raises."""

    async def wait_torn(self) -> None:
        """Return once the stream has been reset or its connection is gone."""


class FramedStream:
    """One bidirectional stream of frames with a peer. One consumer; any number of senders.

    `run` must be running in some nursery (the host sees to it) until it returns by itself. Use as an async context
    manager: leaving the block closes the stream, or resets it when an exception passes.
    """

    def __init__(self, raw: ByteStream, *, limits: StreamLimits, peer_id: str, protocol: str) -> None:
        self.peer_id: Final = peer_id
        self.protocol: Final = protocol
        self.limits: Final = limits
        self._raw = raw
        self._decoder = FrameDecoder(limits.frame_bytes_max)
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._readable = trio.Event()
        self._drained = trio.Event()
        self._consumer: Callable[[bytes], None] | None = None
        self._heard_at_s = -math.inf
        self._send_lock = trio.Lock()
        self._sent_at_s = -math.inf
        self._peer_finished = False
        self._is_torn = False
        self._receive_end: NetworkError | None = None
        self._send_end: NetworkError | None = None
        self._scope = trio.CancelScope()
        self._ended = trio.Event()

    @property
    def receive_end(self) -> NetworkError | None:
        """Why the stream receives nothing more, or None while it may."""
        return self._receive_end

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if exc is None:
            await self.close()
        else:
            self.reset(f"abandoned: {type(exc).__name__}")

    async def receive(self) -> bytes:
        """Return the next frame, 1..frame_bytes_max bytes. Safe to cancel: no frame is lost.

        Frames that arrived before the end are delivered first. Then raises StreamClosed (orderly end), StreamReset,
        FrameTooLarge, ReceiverStalled or PeerUnreachable.
        """
        if self._queue:
            await trio.lowlevel.checkpoint()
        while not self._queue:
            if self._receive_end is not None:
                raise self._receive_end.with_traceback(None)
            if self._readable.is_set():
                self._readable = trio.Event()
            await self._readable.wait()
        return self._take()

    async def consume(self, take: Callable[[bytes], None]) -> NoReturn:
        """Hand every frame to `take` as soon as it is here, without switching to this task for it.

        Raises as `receive` at the end; also what `take` raises, which is then given no more.
        """
        failures: list[Exception] = []

        def deliver(frame: bytes) -> None:
            if failures:
                return
            try:
                take(frame)
            except Exception as error:  # for who consumes, not for the transport that has brought the frame
                failures.append(error)
                self._readable.set()

        while self._queue:
            deliver(self._take())
        self._consumer = deliver
        try:
            while not failures:
                if self._receive_end is not None:
                    raise self._receive_end.with_traceback(None)
                self._readable = trio.Event()
                await self._readable.wait()
            raise failures[0]
        finally:
            self._consumer = None

    async def send(self, payload: bytes | bytearray | memoryview) -> None:
        """Send one frame of 1..frame_bytes_max bytes; returns once the transport has taken it, not when it arrived.

        Cancelling it while bytes are being written resets the stream. Raises StreamClosed, StreamReset,
        FrameTooLarge, PeerUnreachable; ValueError for an empty payload (empty frames are heartbeats).
        """
        if not payload:
            raise ValueError("an empty frame is a heartbeat and cannot be sent as a message")
        if len(payload) > self.limits.frame_bytes_max:
            raise FrameTooLarge(f"frame of {len(payload)} bytes offered, limit is {self.limits.frame_bytes_max}")
        await self._write(HEADER.pack(len(payload)) + payload)

    def send_now(self, payload: bytes) -> bool:
        """Send one frame, if that needs no waiting; else False, and nothing was sent: `send` says why, or waits."""
        if not payload or len(payload) > self.limits.frame_bytes_max:
            return False
        if self._send_end is not None or self._send_lock.locked():
            return False
        if not self._raw.write_now(HEADER.pack(len(payload)) + payload):
            return False
        self._sent_at_s = trio.current_time()
        return True

    async def send_together(self, payloads: Sequence[bytes]) -> None:
        """Send frames, at least one, in a single write, which costs the transport little more than one of them alone.

        As `send` otherwise.
        """
        parts: list[bytes] = []
        for payload in payloads:
            if not payload:
                raise ValueError("an empty frame is a heartbeat and cannot be sent as a message")
            if len(payload) > self.limits.frame_bytes_max:
                raise FrameTooLarge(f"frame of {len(payload)} bytes offered, limit is {self.limits.frame_bytes_max}")
            parts += (HEADER.pack(len(payload)), payload)
        await self._write(b"".join(parts))

    async def close(self) -> None:
        """End the stream in order: sent frames still arrive, later incoming ones are discarded. Idempotent."""
        closed = StreamClosed("this side has closed the stream")
        self._queue.clear()
        self._queued_bytes = 0
        self._end_receiving(closed)
        self._drained.set()
        if self._send_end is not None:
            return
        self._send_end = closed
        try:
            with trio.fail_after(self.limits.linger_s):
                async with self._send_lock:
                    await self._raw.finish()
        except (NetworkError, trio.TooSlowError):
            self._scope.cancel()
            return
        if self._peer_finished:
            self._scope.cancel()
        self._scope.deadline = min(self._scope.deadline, trio.current_time() + self.limits.linger_s)

    def reset(self, reason: str) -> None:
        """Drop the stream in both directions at once; the peer sees StreamReset. Idempotent."""
        self._fail(StreamReset(reason))

    async def wait_ended(self) -> None:
        """Return when the stream holds no resource any more (after `close`, that takes the peer's end as well)."""
        await self._ended.wait()

    async def run(self) -> None:
        """Read and keep alive until the stream ends; never raises anything but cancellation."""
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._keep_alive)
                    try:
                        await self._read_until_end()
                    except NetworkError as error:
                        self._fail(error)
                    if self._send_end is None:
                        # The peer has finished but may still be reading: hold our side open until our user closes it.
                        await trio.sleep_forever()
                    nursery.cancel_scope.cancel()
        finally:
            await self._release()

    async def _release(self) -> None:
        self._fail(StreamReset("the stream was abandoned"))
        with trio.move_on_after(RESET_TIMEOUT_S) as scope:
            scope.shield = True
            await self._raw.reset()
        self._ended.set()

    async def _read_until_end(self) -> None:
        """Most bytes are pushed, from within the transport; here is what came before, what is declined, and the end."""
        self._heard_at_s = trio.current_time()
        self._raw.push_to(self._take_pushed)
        while True:
            with trio.CancelScope(deadline=self._heard_at_s + self.limits.dead_peer_s) as silence:
                data = await self._raw.read(READ_BYTES)
            if silence.cancelled_caught:
                if trio.current_time() < self._heard_at_s + self.limits.dead_peer_s:
                    continue
                raise PeerUnreachable(f"peer {self.peer_id} has been silent for {self.limits.dead_peer_s} s")
            if not data:
                break
            self._take_bytes(data)
            if self._queued_bytes > self.limits.queue_bytes_max and not self._is_torn:
                await self._wait_for_consumer()
                self._heard_at_s = trio.current_time()
        if not self._decoder.is_between_frames:
            raise StreamReset("the stream ended inside a frame")
        self._peer_finished = True
        self._end_receiving(StreamClosed("the peer has closed the stream"))

    def _take_bytes(self, data: bytes) -> None:
        self._heard_at_s = trio.current_time()
        for frame in self._decoder.feed(data):
            self._deliver(frame)

    def _take_pushed(self, data: bytes) -> bool:
        if self._queued_bytes > self.limits.queue_bytes_max or self._receive_end is not None:
            return False
        try:
            self._take_bytes(data)
        except NetworkError as error:
            self._fail(error)
        return True

    def _take(self) -> bytes:
        frame = self._queue.popleft()
        self._queued_bytes -= len(frame)
        if self._queued_bytes <= self.limits.queue_bytes_max // 2:
            self._drained.set()
        return frame

    def _deliver(self, frame: bytes) -> None:
        if self._receive_end is not None:
            return
        if self._consumer is not None:
            self._consumer(frame)
        else:
            self._queue.append(frame)
            self._queued_bytes += len(frame)
            self._readable.set()

    async def _wait_for_consumer(self) -> None:
        """Pause reading until the consumer has caught up or the stream is torn (which the next read reports)."""
        self._drained = trio.Event()
        with trio.move_on_after(self.limits.consumer_stall_s) as patience:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._wait_until_torn, nursery.cancel_scope)
                await self._drained.wait()
                nursery.cancel_scope.cancel()
        if patience.cancelled_caught:
            raise ReceiverStalled(
                f"{self._queued_bytes} received bytes of {self.protocol} left unread for "
                f"{self.limits.consumer_stall_s} s"
            )

    async def _wait_until_torn(self, scope: trio.CancelScope) -> None:
        await self._raw.wait_torn()
        self._is_torn = True  # what the transport still holds is bounded: read it without more ado, up to the reset
        scope.cancel()

    async def _keep_alive(self) -> None:
        while self._send_end is None:
            wait_s = self._sent_at_s + self.limits.heartbeat_s - trio.current_time()
            if wait_s > 0:
                await trio.sleep(wait_s)
                continue
            try:
                await self._write(HEARTBEAT)
            except NetworkError:
                return  # `_write` has already made it the stream's end

    async def _write(self, frame: bytes) -> None:
        try:
            self._send_lock.acquire_nowait()
        except trio.WouldBlock:
            await self._send_lock.acquire()
        try:
            if self._send_end is not None:
                raise self._send_end.with_traceback(None)
            await self._raw.write(frame)
            self._sent_at_s = trio.current_time()
        except trio.Cancelled:
            self._fail(StreamReset("a send was cancelled half way"))
            raise
        except NetworkError as error:
            raise self._fail(error) from None
        finally:
            self._send_lock.release()

    def _end_receiving(self, end: NetworkError) -> None:
        if self._receive_end is None:
            self._receive_end = end
            self._readable.set()

    def _fail(self, error: NetworkError) -> NetworkError:
        """End both directions and return why sending ended: the first cause, which may be older than `error`."""
        self._end_receiving(error)
        if self._send_end is None:
            self._send_end = error
        self._scope.cancel()
        return self._send_end
