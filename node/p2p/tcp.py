"""TCP for libp2p: reads in bulk, writes that cannot be torn by cancellation, admission control on accept.

Replaces libp2p's own TCP transport (docs/upstream.md, sections 2, 8 and 12). The differences:
 - a write takes all its bytes at once into an outbox and is then beyond cancellation, so Noise records stay whole;
 - `read(n)` returns exactly n bytes before the end of the stream, from one buffer filled by large receives;
  - an accepted connection returns its place when it closes, and is admitted per IP;
 - the listening port is not shared with other processes (no SO_REUSEPORT).
"""

from __future__ import annotations

import ipaddress
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

import trio
from libp2p.abc import IListener, IRawConnection, ITransport
from libp2p.custom_types import THandler
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from libp2p.transport.tcp.tcp import TCP
from multiaddr import Multiaddr

from node.p2p.admission import AdmissionLimits, ConnectionAdmission

RECEIVE_BYTES: Final = 128 * 1024
YIELD_BYTES: Final = 64 * 1024
PREFIX_BYTES: Final = 2
OUTBOX_BYTES_MAX: Final = 256 * 1024
ACCEPT_BACKLOG: Final = 512

logger = logging.getLogger(__name__)


class TcpStream(ReadWriteCloser):
    """One TCP connection. One reader; writers may be many, each write is atomic."""

    def __init__(self, sock: socket.socket, nursery: trio.Nursery) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = sock
        self._nursery = nursery
        self._remote: tuple[str, int] = sock.getpeername()[:2]
        self._inbox = bytearray()
        self._outbox = bytearray()
        self._outbox_room = trio.Event()
        self._is_flushing = False
        self._sent_since_yield = 0
        self._broken: str | None = None
        self._on_close: Callable[[], None] | None = None
        self._on_established: Callable[[], None] | None = None

    @property
    def remote_ip(self) -> str:
        """The other end's IP address."""
        return self._remote[0]

    def get_remote_address(self) -> tuple[str, int] | None:
        """Return (ip, port) of the other end, also after it is gone."""
        return self._remote

    def watch(self, *, established: Callable[[], None], closed: Callable[[], None]) -> None:
        """Call back once each: when the peer has proved its identity, and when the stream closes."""
        self._on_established = established
        self._on_close = closed

    def mark_established(self) -> None:
        """Marks the connection as secured and multiplexed."""
        if self._on_established is not None:
            self._on_established()

    async def read(self, n: int | None = None) -> bytes:
        """Return exactly n bytes (for None: all that is buffered, at least 1); fewer only at the end of the stream.

        Safe to cancel. Raises ConnectionClosedError when the connection was torn.
        """
        wanted = 1 if n is None else n
        while len(self._inbox) < wanted:
            if not await self._receive():
                break
        size = len(self._inbox) if n is None else n
        data = bytes(self._inbox[:size])
        del self._inbox[:size]
        return data

    async def read_prefixed(self) -> bytes | None:
        """The bytes behind a big-endian u16 that says how many they are; None at the end. As `read` otherwise."""
        inbox = self._inbox
        while True:
            if len(inbox) >= PREFIX_BYTES:
                end = PREFIX_BYTES + (inbox[0] << 8 | inbox[1])
                if len(inbox) >= end:
                    data = bytes(inbox[PREFIX_BYTES:end])
                    del inbox[:end]
                    return data
            if not await self._receive():
                return None

    async def _receive(self) -> bool:
        waited = False
        while True:
            if self._broken is not None:
                return False  # closed on this side: libp2p expects an end, not an error
            try:
                data = self._socket.recv(RECEIVE_BYTES)
                break
            except BlockingIOError:
                waited = True
                try:
                    await trio.lowlevel.wait_readable(self._socket.fileno())
                except trio.ClosedResourceError:
                    return False
            except OSError as error:
                raise ConnectionClosedError(f"connection to {self._remote} broke: {error}", transport="tcp") from error
        self._inbox += data
        if not waited:  # a peer that always has more must not starve the other tasks
            await trio.lowlevel.checkpoint()
        return bool(data)

    @property
    def is_flushed(self) -> bool:
        """Whether the system has taken all that was written, and more may be written without waiting."""
        return not self._outbox and self._broken is None and self._sent_since_yield < YIELD_BYTES

    def write_now(self, data: bytes) -> None:
        """As `write`, for a few bytes while `is_flushed`: never waits. Raises ConnectionClosedError."""
        sent = self._send_now(data)
        if sent < len(data):
            self._outbox += memoryview(data)[sent:]
            self._start_flushing()
        self._sent_since_yield += len(data)

    async def write(self, data: bytes) -> None:
        """Take all of `data` at once, in call order; wait only while the outbox is over its bound.

        A cancelled wait loses nothing: the bytes are already queued. Raises ConnectionClosedError.
        """
        if self._broken is not None:
            raise ConnectionClosedError(f"connection to {self._remote} is closed: {self._broken}", transport="tcp")
        if self._outbox:
            self._outbox += data
        else:
            sent = self._send_now(data)
            if sent < len(data):
                self._outbox += memoryview(data)[sent:]
                self._start_flushing()
        while len(self._outbox) > OUTBOX_BYTES_MAX and self._broken is None:
            if self._outbox_room.is_set():
                self._outbox_room = trio.Event()
            await self._outbox_room.wait()
        if self._broken is not None:
            raise ConnectionClosedError(f"connection to {self._remote} is closed: {self._broken}", transport="tcp")
        self._sent_since_yield += len(data)
        if self._sent_since_yield >= YIELD_BYTES:
            # Only every so often: a task switch costs more than a small message does.
            self._sent_since_yield = 0
            await trio.lowlevel.cancel_shielded_checkpoint()

    def _send_now(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._break(str(error))
            raise ConnectionClosedError(f"connection to {self._remote} broke: {error}", transport="tcp") from error

    def _start_flushing(self) -> None:
        if not self._is_flushing:
            self._is_flushing = True
            self._nursery.start_soon(self._flush)

    async def _flush(self) -> None:
        try:
            while self._outbox and self._broken is None:
                await trio.lowlevel.wait_writable(self._socket.fileno())
                with memoryview(self._outbox) as view:
                    sent = self._send_now(view)
                del self._outbox[:sent]
                if len(self._outbox) <= OUTBOX_BYTES_MAX:
                    self._outbox_room.set()
        except (ConnectionClosedError, trio.ClosedResourceError):
            pass  # `_break` has been called; readers and writers learn of it by themselves
        finally:
            self._is_flushing = False

    async def close(self) -> None:
        """Close the socket; bytes still in the outbox are dropped. Idempotent."""
        self._break("closed on this side")
        await trio.lowlevel.cancel_shielded_checkpoint()

    def _break(self, reason: str) -> None:
        if self._broken is not None:
            return
        self._broken = reason
        trio.lowlevel.notify_closing(self._socket.fileno())
        self._socket.close()
        self._outbox = bytearray()
        self._outbox_room.set()
        if self._on_close is not None:
            self._on_close()


class TcpTransport(ITransport):
    """Dials and listens with `TcpStream`. Bound to a swarm's nursery by libp2p before first use."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self.admission: Final[ConnectionAdmission[TcpStream]] = ConnectionAdmission(limits)
        self._resolver = TCP()
        self._nursery: trio.Nursery | None = None

    def set_background_nursery(self, nursery: trio.Nursery) -> None:
        """Called by libp2p when the swarm starts."""
        self._nursery = nursery

    @property
    def nursery(self) -> trio.Nursery:
        """The nursery of the connections' tasks; exists only while the swarm runs."""
        assert self._nursery is not None, "the transport is used before its swarm runs"
        return self._nursery

    async def dial(self, maddr: Multiaddr) -> IRawConnection:
        """Connect. Raises OpenConnectionError."""
        raw = await self._resolver.dial(maddr)
        assert isinstance(raw, RawConnection)
        trio_socket: Any = raw.stream.stream.socket  # type: ignore[attr-defined]  # of libp2p's TrioTCPStream
        sock = socket.socket(fileno=trio_socket.detach())
        try:
            stream = TcpStream(sock, self.nursery)
        except OSError as error:
            sock.close()
            raise OpenConnectionError(f"connection to {maddr} broke at once: {error}") from error
        return RawConnection(stream, True)

    def create_listener(self, handler_function: THandler) -> TcpListener:
        """Return a listener that hands admitted connections to libp2p's handler."""
        return TcpListener(self, handler_function)

    def can_dial(self, maddr: Multiaddr) -> bool:
        """Plain TCP addresses only."""
        return self._resolver.can_dial(maddr)

    def can_listen(self, maddr: Multiaddr) -> bool:
        """Plain TCP addresses only."""
        return self._resolver.can_listen(maddr)

    def protocols(self) -> list[str]:
        """The multiaddr protocol this transport is chosen by."""
        return ["tcp"]

    async def serve(self, sock: socket.socket, handler: THandler) -> None:
        """Admit an accepted socket and run libp2p's handler until the connection closes. Contains all errors."""
        try:
            stream = TcpStream(sock, self.nursery)
        except OSError:
            sock.close()
            return
        ip = stream.remote_ip
        admitted, evicted = self.admission.admit(stream, ip, trio.current_time())
        for other in evicted:
            await other.close()
        if not admitted:
            logger.debug("connection refused: too many", extra={"ip": ip})
            await stream.close()
            return
        try:
            with trio.CancelScope() as scope:
                # libp2p's handler would return only when the swarm stops: end it with its connection.
                stream.watch(established=lambda: self.admission.establish(stream), closed=scope.cancel)
                await handler(stream)
        except Exception as error:
            logger.debug("connection dropped: %s: %s", type(error).__name__, error, extra={"ip": ip})
        finally:
            self.admission.release(stream)
            await stream.close()


class TcpListener(IListener):
    """Accepts connections at one or more addresses until closed."""

    def __init__(self, transport: TcpTransport, handler: THandler) -> None:
        self._transport = transport
        self._handler = handler
        self._sockets: list[socket.socket] = []
        self._scope = trio.CancelScope()

    async def listen(self, maddr: Multiaddr) -> None:
        """Bind and start accepting. Raises OpenConnectionError."""
        names = {protocol.name for protocol in maddr.protocols()}
        ip_protocol = "ip6" if "ip6" in names else "ip4"
        try:
            host, port = maddr.value_for_protocol(ip_protocol), maddr.value_for_protocol("tcp")
            assert host is not None
            assert port is not None
            sock = _bind(host, int(port))
        except (OSError, ValueError, LookupError) as error:
            raise OpenConnectionError(f"cannot listen at {maddr}: {error}") from error
        self._sockets.append(sock)
        self._transport.nursery.start_soon(self._accept_forever, sock)
        await trio.lowlevel.checkpoint()

    async def _accept_forever(self, sock: socket.socket) -> None:
        with self._scope:
            while True:
                try:
                    accepted, _ = sock.accept()
                except BlockingIOError:
                    try:
                        await trio.lowlevel.wait_readable(sock.fileno())
                    except trio.ClosedResourceError:
                        return
                except OSError as error:  # out of descriptors, or a connection gone before it was accepted
                    logger.warning("accept failed: %s", error)
                    await trio.sleep(0.1)
                else:
                    self._transport.nursery.start_soon(self._transport.serve, accepted, self._handler)
                    await trio.lowlevel.checkpoint()

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        """The bound addresses, with real ports."""
        return tuple(_encode_bound(sock) for sock in self._sockets)

    async def close(self) -> None:
        """Stop accepting and free the ports. Idempotent."""
        self._scope.cancel()
        for sock in self._sockets:
            trio.lowlevel.notify_closing(sock.fileno())
            sock.close()
        self._sockets.clear()
        await trio.lowlevel.cancel_shielded_checkpoint()


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(host).version == 6 else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        sock.listen(ACCEPT_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _encode_bound(sock: socket.socket) -> Multiaddr:
    ip, port = sock.getsockname()[:2]
    return Multiaddr(f"/{'ip6' if sock.family == socket.AF_INET6 else 'ip4'}/{ip}/tcp/{port}")
