"""A libp2p host without the defects of py-libp2p 0.8.1 that cost data, safety or time: one function for each change.

Where libp2p accepts a part as an argument (transport, security, muxer, stream handler) this file passes our own. It
patches nothing of libp2p, so other users of libp2p in the same process are unaffected. Every defect has its section in
docs/upstream.md and a test that fails on the stock part and passes on ours.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable

import trio
from libp2p.abc import IHost, IMuxedConn, INetStream, ISecureConn
from libp2p.crypto.keys import KeyPair
from libp2p.crypto.x25519 import create_new_key_pair as create_x25519_key_pair
from libp2p.custom_types import TProtocol, TSecurityOptions
from libp2p.identity.identify_push.identify_push import ID_PUSH as IDENTIFY_PUSH_ID
from libp2p.network.auto_connector import AutoConnector
from libp2p.network.config import ConnectionConfig, RetryConfig
from libp2p.network.swarm import Swarm
from libp2p.peer.id import ID
from libp2p.rcmgr.connection_limits import ConnectionLimits
from libp2p.rcmgr.manager import ResourceLimits, ResourceManager
from libp2p.security.noise.transport import PROTOCOL_ID as NOISE_PROTOCOL_ID
from libp2p.security.noise.transport import Transport as NoiseTransport
from libp2p.stream_muxer.muxer_multistream import MuxerMultistream
from libp2p.stream_muxer.yamux.yamux import PROTOCOL_ID as YAMUX_PROTOCOL_ID

from node.p2p.tcp import TcpStream
from node.p2p.yamux import YamuxConnection
from node.p2p.yamux_wire import YamuxLimits

logger = logging.getLogger(__name__)


def offer_noise_only(key_pair: KeyPair) -> TSecurityOptions:
    """Section 9: libp2p also accepts `/plaintext/2.0.0`, over which a peer id is claimed and never proved.

    Test: tests/integration/node/p2p/test_hostile.py::test_plaintext_is_refused.
    """
    noise_key = create_x25519_key_pair().private_key
    return {TProtocol(NOISE_PROTOCOL_ID): NoiseTransport(key_pair, noise_privkey=noise_key)}


class YamuxSelection(MuxerMultistream):
    """Sections 1 to 6: negotiates Yamux only, and runs our implementation of it.

    libp2p's own selection names its `Yamux` class in the code, whatever class it is given, so it is replaced whole.
    Tests: tests/unit/node/p2p/test_yamux.py, tests/unit/node/p2p/test_upstream_yamux.py.
    """

    def __init__(self, limits: YamuxLimits, negotiate_timeout_s: int) -> None:
        super().__init__({TProtocol(YAMUX_PROTOCOL_ID): YamuxConnection}, negotiate_timeout_s)
        self._limits = limits

    async def new_conn(self, conn: ISecureConn, peer_id: ID) -> IMuxedConn:
        """Negotiate and wrap a secured connection."""
        await self._selector.select(conn, conn.is_initiator, self.negotiate_timeout)
        transport = find_tcp_stream(conn)
        established = transport.mark_established if transport is not None else None
        return YamuxConnection(conn, peer_id, limits=self._limits, on_established=established)


def find_tcp_stream(conn: ISecureConn) -> TcpStream | None:
    """Return our transport below a secured connection; None when the transport is another."""
    layer: object = conn
    for name in ("conn", "read_writer", "read_write_closer", "stream"):
        layer = getattr(layer, name, None)
    return layer if isinstance(layer, TcpStream) else None


def build_connection_config(connections_max: int, connections_per_peer_max: int, timeout_s: float) -> ConnectionConfig:
    """Section 10: libp2p keeps 50 places for peers of its own choosing unless told otherwise."""
    return ConnectionConfig(
        max_connections=connections_max,
        min_connections=0,
        low_watermark=0,
        high_watermark=connections_max,
        max_connections_per_peer=connections_per_peer_max,
        inbound_upgrade_timeout=timeout_s,
        outbound_upgrade_timeout=timeout_s,
        inbound_stream_protocol_negotiation_timeout=timeout_s,
        outbound_stream_protocol_negotiation_timeout=timeout_s,
    )


def build_resource_manager(connections_max: int, connections_per_peer_max: int, streams_max: int) -> ResourceManager:
    """Section 10: keeps libp2p's plain limits, drops its circuit breaker, degradation and per-peer rate.

    Once some peers misbehave, those shut every peer out for a minute. Admission per IP does that work here.
    """
    return ResourceManager(
        limits=ResourceLimits(max_connections=2 * connections_max, max_streams=streams_max),
        connection_limits=ConnectionLimits(
            max_established_per_peer=connections_per_peer_max, max_established_total=connections_max
        ),
        enable_metrics=False,
        enable_memory_limits=False,
        enable_circuit_breaker=False,
        enable_graceful_degradation=False,
        enable_rate_limiting=False,
    )


class _IdleConnector(AutoConnector):
    async def maybe_connect(self) -> None:
        """Dials no peer."""
        await trio.lowlevel.checkpoint()


def dial_only_when_asked(swarm: Swarm) -> None:
    """Sections 7 and 10: libp2p retries a failed dial three times with growing pauses, and dials peers on its own.

    Its connector aims at half the high watermark, also with a low watermark of 0, and redials whoever left. The
    250 ms wait on every dial and the 60 s refusal after a failed one are left aside by `Swarm.dial_addr`.
    Tests: tests/integration/node/p2p/test_two_processes.py::test_redial_after_failure_is_immediate,
    tests/integration/node/p2p/test_upstream_host.py.
    """
    swarm.retry_config = RetryConfig(max_retries=0)
    swarm.auto_connector = _IdleConnector(swarm)


def stop_identifying(host: IHost, swarm: Swarm) -> None:
    """Section 15: libp2p asks every new peer for its identity, and lets any peer push addresses into its peer store.

    We take identities from Noise and addresses from the chain; those who ask us still get their answer.
    Test: tests/integration/node/p2p/test_hostile.py::test_nothing_can_be_pushed_at_us.
    """
    for notifee in list(swarm.notifees):
        swarm.remove_notifee(notifee)
    host.remove_stream_handler(IDENTIFY_PUSH_ID)


def contain_inbound_streams(swarm: Swarm, streams_per_peer_max: int) -> None:
    """Section 11: an exception on libp2p's inbound path (bytes that are not UTF-8 suffice) stops the whole swarm.

    Also bounds the inbound streams of a peer before any protocol is negotiated.
    Test: tests/integration/node/p2p/test_hostile.py::test_garbage_streams_leave_the_host_standing.
    """
    negotiate: Callable[[INetStream], Awaitable[None]] = swarm.common_stream_handler
    open_streams: Counter[ID] = Counter()

    async def contained(stream: INetStream) -> None:
        peer_id = stream.muxed_conn.peer_id
        if open_streams[peer_id] >= streams_per_peer_max:
            await stream.reset()
            return
        open_streams[peer_id] += 1
        try:
            await negotiate(stream)
        except Exception as error:
            logger.debug("inbound stream dropped: %s: %s", type(error).__name__, error)
            await stream.reset()
        finally:
            open_streams[peer_id] -= 1
            if not open_streams[peer_id]:
                del open_streams[peer_id]

    swarm.set_stream_handler(contained)
