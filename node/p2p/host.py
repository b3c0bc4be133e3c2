"""The peer-to-peer host: listens, dials, serves protocols by name. No libp2p type leaves it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

import trio
from libp2p.abc import IHost, INetConn, INetStream
from libp2p.connection_types import ConnectionType
from libp2p.custom_types import TProtocol
from libp2p.network.exceptions import SwarmException
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.rcmgr import Direction
from multiaddr import Multiaddr

from node.p2p.address import decode_address, decode_multiaddr, encode_address, is_circuit
from node.p2p.build import HostLimits, build_host
from node.p2p.bytestream import MuxedByteStream
from node.p2p.errors import ListenFailed, NetworkError, PeerUnreachable
from node.p2p.framing import FramedStream, StreamLimits
from node.p2p.identity import decode_peer_id
from node.p2p.negotiation import propose_protocol
from node.p2p.request import REQUESTS_BURST, REQUESTS_PER_S, RequestHandler, serve_requests
from node.p2p.watch import ConnectionWatch
from node.p2p.yamux import YamuxConnection
from proto_specs.errors import ProtocolError

DialCircuit = Callable[[str, ID], Awaitable[None]]
StreamHandler = Callable[[FramedStream, str], Awaitable[None]]
"""Serves one inbound stream: (stream, peer id). The stream is closed when it returns, reset when it raises."""

SILENCE_MIN_S: Final = 2.0

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Service:
    protocol: str
    handler: StreamHandler
    limits: StreamLimits
    streams_per_peer_max: int


class _Handling:
    """One run of a handler: a scope to end it, and an event that it has ended."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.done = trio.Event()


class P2PHost:
    """A running host. Made by `open_host` only."""

    def __init__(self, libp2p_host: IHost, swarm: Swarm, nursery: trio.Nursery, limits: HostLimits) -> None:
        self.peer_id: Final[str] = libp2p_host.get_id().to_base58()
        self.limits: Final = limits
        self.libp2p_host: Final = libp2p_host
        """Only for use inside `node/p2p`."""
        self._host = libp2p_host
        self._swarm = swarm
        self._nursery = nursery
        self._served: dict[str, _Service] = {}
        self._streams_per_service: Counter[tuple[str, str]] = Counter()
        self._dials: dict[str, trio.Lock] = {}
        self.dial_circuit: DialCircuit | None = None
        """Dials through relays, when `node.p2p.circuits` is in use."""
        self._watch = ConnectionWatch()
        swarm.register_notifee(self._watch)

    @property
    def addresses(self) -> list[str]:
        """The addresses this host listens at, with real ports: `/ip4/127.0.0.1/tcp/4001/p2p/12D3Koo...`."""
        listeners = self._swarm.listeners.values()
        return [encode_address(address, self.peer_id) for listener in listeners for address in listener.get_addrs()]

    def peers(self) -> list[str]:
        """Peer ids of all connected peers, each once, in order of connection."""
        return [peer.to_base58() for peer, connections in self._swarm.connections.items() if _are_usable(connections)]

    def is_outbound(self, peer_id: str) -> bool:
        """Whether we dialled a connection to this peer."""
        connections = self._swarm.get_connections(decode_peer_id(peer_id))
        return any(getattr(connection, "direction", None) is Direction.OUTBOUND for connection in connections)

    def get_remote_ip(self, peer_id: str) -> str | None:
        """The IP address of a connected peer; None when the peer came through a relay."""
        for connection in self._swarm.get_connections(decode_peer_id(peer_id)):
            is_relayed = connection.get_connection_type() is ConnectionType.RELAYED
            if isinstance(connection.muxed_conn, YamuxConnection) and not is_relayed:
                remote = connection.muxed_conn.get_remote_address()
                return None if remote is None else remote[0]
        return None

    def watch(self, callback: Callable[[str], None] | None) -> None:
        """Call back with the peer id of every new connection. There is one watcher at a time; None ends the watch."""
        self._watch.callback = callback

    def serve(
        self,
        protocol: str,
        handler: StreamHandler,
        *,
        max_frame_bytes: int = 1024 * 1024,
        max_streams_per_peer: int = 16,
        limits: StreamLimits | None = None,
    ) -> None:
        """Serve a protocol: each inbound stream runs `handler` in the host's own nursery.

        A handler that raises loses its stream and is logged; others are unaffected. The handler learns that its stream
        has failed from its next send or receive, and is cancelled if it still runs `handler_grace_s` later. A peer's
        streams over `max_streams_per_peer`, including ended ones whose handler still runs, are reset before a handler
        sees them. `limits` sets the other bounds; its frame bound is replaced by `max_frame_bytes`. Raises ValueError
        when the protocol is served already.
        """
        if protocol in self._served:
            raise ValueError(f"protocol {protocol} is served already")
        stream_limits = replace(limits or StreamLimits(), frame_bytes_max=max_frame_bytes)
        service = _Service(protocol, handler, stream_limits, max_streams_per_peer)
        self._served[protocol] = service

        async def on_stream(stream: INetStream) -> None:
            await self._accept(stream, service)

        self._host.set_stream_handler(TProtocol(protocol), on_stream)

    def serve_requests(
        self,
        protocol: str,
        handler: RequestHandler,
        *,
        max_request_bytes: int = 1024 * 1024,
        max_streams_per_peer: int = 16,
        timeout_s: float = 60.0,
        requests_per_s: float = REQUESTS_PER_S,
        requests_burst: float = REQUESTS_BURST,
    ) -> None:
        """Answer one-shot requests of a protocol; see `node.p2p.request`."""
        serve_requests(
            self,
            protocol,
            handler,
            max_request_bytes=max_request_bytes,
            max_streams_per_peer=max_streams_per_peer,
            timeout_s=timeout_s,
            requests_per_s=requests_per_s,
            requests_burst=requests_burst,
        )

    async def connect(self, address_or_peer: str, *, timeout_s: float = 10.0) -> str:
        """Make sure there is a connection and return the peer id.

        Takes a full address (`/ip4/../tcp/../p2p/..`) or the peer id of a connected peer. A failure is never
        remembered: the next call dials at once. Raises AddressInvalid, PeerUnreachable.
        """
        address, peer_id = decode_address(address_or_peer)
        try:
            with trio.fail_after(timeout_s):
                await self._ensure_connected(peer_id, address)
        except trio.TooSlowError as error:
            raise PeerUnreachable(f"no connection to {address_or_peer} within {timeout_s} s") from error
        return peer_id

    async def open_stream(
        self,
        address_or_peer: str,
        protocol: str,
        *,
        timeout_s: float = 10.0,
        max_frame_bytes: int = 1024 * 1024,
        limits: StreamLimits | None = None,
    ) -> FramedStream:
        """Open a stream of a protocol, dialing first where no connection exists.

        The stream lives in the host's nursery; use it as `async with await host.open_stream(...) as stream`.
        Raises AddressInvalid, PeerUnreachable, ProtocolUnsupported, StreamReset.
        """
        address, peer_id = decode_address(address_or_peer)
        try:
            with trio.fail_after(timeout_s):
                await self._ensure_connected(peer_id, address)
                raw = await self._open_negotiated(peer_id, protocol)
        except trio.TooSlowError as error:
            await self._drop_silent_connections(peer_id, max(timeout_s, SILENCE_MIN_S))
            raise PeerUnreachable(f"no {protocol} stream to {address_or_peer} within {timeout_s} s") from error
        stream_limits = replace(limits or StreamLimits(), frame_bytes_max=max_frame_bytes)
        stream = FramedStream(raw, limits=stream_limits, peer_id=peer_id, protocol=protocol)
        self._nursery.start_soon(self._run_stream, stream)
        return stream

    async def disconnect(self, peer_id: str) -> None:
        """Close all connections to a peer; their streams end with StreamReset. Unknown peers are ignored."""
        async with trio.open_nursery() as nursery:
            for connection in self._swarm.get_connections(decode_peer_id(peer_id)):
                nursery.start_soon(self._close_connection, connection)

    async def _ensure_connected(self, peer_id: str, address: Multiaddr | None) -> None:
        peer = decode_peer_id(peer_id)
        if peer_id == self.peer_id:
            raise PeerUnreachable("a host does not dial itself")
        lock = self._dials.setdefault(peer_id, trio.Lock())
        try:
            async with lock:
                if _are_usable(self._swarm.get_connections(peer)):
                    return
                if address is None:
                    raise PeerUnreachable(f"not connected to {peer_id} and no address was given")
                await self._dial(peer, address)
        finally:
            if not lock.locked():
                self._dials.pop(peer_id, None)

    async def _dial(self, peer: ID, address: Multiaddr) -> None:
        if is_circuit(address):
            if self.dial_circuit is None:
                raise PeerUnreachable(f"this host dials nobody through a relay: {address}")
            await self.dial_circuit(str(address), peer)
            return
        # dial_addr, not dial_peer: the latter waits 250 ms per address, tries one TCP address only, and refuses a
        # peer for 60 s after one failure (docs/upstream.md).
        try:
            await self._swarm.dial_addr(address, peer)
        except (SwarmException, OSError) as error:
            raise PeerUnreachable(f"cannot connect to {address}: {error}") from error

    async def _open_negotiated(self, peer_id: str, protocol: str) -> MuxedByteStream:
        try:
            net_stream = await self._swarm.new_stream(decode_peer_id(peer_id))
        except SwarmException as error:
            raise PeerUnreachable(f"cannot open a stream to {peer_id}: {error}") from error
        raw = MuxedByteStream(net_stream)
        try:
            await propose_protocol(raw, protocol)
        except BaseException:
            with trio.move_on_after(self.limits.close_timeout_s) as scope:
                scope.shield = True
                await raw.reset()
            raise
        return raw

    async def _accept(self, net_stream: INetStream, service: _Service) -> None:
        peer_id = net_stream.muxed_conn.peer_id.to_base58()
        key = (service.protocol, peer_id)
        raw = MuxedByteStream(net_stream)
        if self._streams_per_service[key] >= service.streams_per_peer_max:
            logger.warning("stream refused: too many", extra={"peer": peer_id, "protocol": service.protocol})
            await raw.reset()
            return
        self._streams_per_service[key] += 1
        stream = FramedStream(raw, limits=service.limits, peer_id=peer_id, protocol=service.protocol)
        self._nursery.start_soon(self._run_stream, stream)
        handling = _Handling()
        self._nursery.start_soon(self._handle, stream, service.handler, handling)
        try:
            # libp2p takes a returned handler for an ended stream and forgets it.
            await stream.wait_ended()
            with trio.move_on_after(self.limits.handler_grace_s):
                await handling.done.wait()
            handling.scope.cancel()
            await handling.done.wait()
        finally:
            self._streams_per_service[key] -= 1
            if not self._streams_per_service[key]:
                del self._streams_per_service[key]

    async def _run_stream(self, stream: FramedStream) -> None:
        await stream.run()
        if isinstance(stream.receive_end, PeerUnreachable):
            await self._drop_silent_connections(stream.peer_id, stream.limits.dead_peer_s)

    async def _handle(self, stream: FramedStream, handler: StreamHandler, handling: _Handling) -> None:
        where = {"peer": stream.peer_id, "protocol": stream.protocol}
        try:
            with handling.scope:
                await handler(stream, stream.peer_id)
        except* ProtocolError as errors:
            logger.warning("stream reset: the peer broke the protocol: %s", _describe(errors), extra=where)
            stream.reset(f"protocol error: {_describe(errors)}")
        except* NetworkError as errors:
            logger.debug("stream ended: %s", _describe(errors), extra=where)
            stream.reset(_describe(errors))
        except* Exception:
            logger.exception("stream reset: its handler failed", extra=where)
            stream.reset("the handler failed")
        else:
            await stream.close()
        finally:
            handling.done.set()

    async def _drop_silent_connections(self, peer_id: str, silence_s: float) -> None:
        """Close half-open connections, so that the next stream dials instead of waiting for them."""
        for connection in self._swarm.get_connections(decode_peer_id(peer_id)):
            muxed = connection.muxed_conn
            if isinstance(muxed, YamuxConnection) and muxed.silent_s >= silence_s:
                logger.info("connection dropped: silent for %.1f s", muxed.silent_s, extra={"peer": peer_id})
                await muxed.close()

    async def _close_connection(self, connection: INetConn) -> None:
        with trio.move_on_after(self.limits.close_timeout_s):
            await connection.close()

    async def close(self) -> None:
        """End all connections and listeners at once; `open_host` does it at its end."""
        with trio.move_on_after(self.limits.close_timeout_s) as scope:
            scope.shield = True
            async with trio.open_nursery() as nursery:  # at once: each close of libp2p sleeps 0.2 s
                for connection in self._swarm.get_connections():
                    nursery.start_soon(self._close_connection, connection)
        with trio.move_on_after(self.limits.close_timeout_s) as scope:
            scope.shield = True
            await self._host.close()


@asynccontextmanager
async def open_host(seed: bytes, listen: Sequence[str], *, limits: HostLimits | None = None) -> AsyncIterator[P2PHost]:
    """Run a host for the length of the block: TCP + Noise + Yamux, node key from a 32-byte seed.

    `listen` are multiaddrs such as `/ip4/127.0.0.1/tcp/0`; an empty list makes a host that only dials. On leaving,
    handlers are cancelled and every connection is closed. Raises ListenFailed, AddressInvalid, ValueError (seed).
    """
    limits = limits or HostLimits()
    wanted = [decode_multiaddr(address) for address in listen]
    libp2p_host, swarm = build_host(seed, limits)
    failure: Exception | None = None
    async with libp2p_host.run(wanted), trio.open_nursery() as nursery:
        host = P2PHost(libp2p_host, swarm, nursery, limits)
        try:
            if len(swarm.listeners) != len(wanted):
                raise ListenFailed(f"cannot listen at all of {', '.join(listen)}")
            yield host
        except Exception as error:
            failure = error  # raised once outside, so that our nurseries and libp2p's do not wrap it in groups
        finally:
            nursery.cancel_scope.cancel()
            await host.close()
    if failure is not None:
        raise failure


def _describe(errors: BaseException) -> str:
    if isinstance(errors, BaseExceptionGroup):
        return "; ".join(_describe(error) for error in errors.exceptions)
    return f"{type(errors).__name__}: {errors}"


def _are_usable(connections: Sequence[INetConn]) -> bool:
    return any(not connection.is_closed for connection in connections)
