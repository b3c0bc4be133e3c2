"""Builds libp2p's host as this node uses it: its bounds, our transport and multiplexer, and every workaround."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from libp2p import new_host
from libp2p.abc import IHost
from libp2p.network.swarm import Swarm

from node.p2p.admission import AdmissionLimits
from node.p2p.identity import compute_key_pair
from node.p2p.tcp import TcpTransport
from node.p2p.workarounds import (
    YamuxSelection,
    build_connection_config,
    build_resource_manager,
    contain_inbound_streams,
    dial_only_when_asked,
    offer_noise_only,
    stop_identifying,
)
from node.p2p.yamux_wire import YamuxLimits


@dataclass(frozen=True, slots=True)
class HostLimits:
    """Bounds of one host, over all protocols. Times in seconds."""

    connections_max: int = 512
    connections_per_peer_max: int = 4
    inbound_streams_per_peer_max: int = 256
    streams_max: int = 8192
    upgrade_timeout_s: float = 5.0
    close_timeout_s: float = 2.0
    handler_grace_s: float = 5.0
    admission: AdmissionLimits = field(default_factory=AdmissionLimits)
    yamux: YamuxLimits = field(default_factory=YamuxLimits)


def build_host(seed: bytes, limits: HostLimits) -> tuple[IHost, Swarm]:
    """Builds a host that is not running yet. Raises ValueError (seed)."""
    key_pair = compute_key_pair(seed)
    host = new_host(
        key_pair=key_pair,
        sec_opt=offer_noise_only(key_pair),
        transports=[TcpTransport(limits.admission)],
        connection_config=build_connection_config(
            limits.connections_max, limits.connections_per_peer_max, limits.upgrade_timeout_s
        ),
        resource_manager=build_resource_manager(
            limits.connections_max, limits.connections_per_peer_max, limits.streams_max
        ),
        disable_identify_address_discovery=True,
    )
    swarm = host.get_network()
    assert isinstance(swarm, Swarm)
    swarm.upgrader.muxer_multistream = YamuxSelection(limits.yamux, math.ceil(limits.upgrade_timeout_s))
    dial_only_when_asked(swarm)
    stop_identifying(host, swarm)
    contain_inbound_streams(swarm, limits.inbound_streams_per_peer_max)
    return host, swarm
