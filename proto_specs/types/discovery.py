"""How a node asks another for the addresses of peers."""

from __future__ import annotations

import hashlib
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U16, Max, record
from proto_specs.types.common import Hash32

PEERS_PROTOCOL = "/myelin/peers/1"


@record
class FindPeers:
    """Ask for peers near a point. `port` is the asker's own, at the address its peer sees; 0: it has none."""

    genesis: Hash32
    target: Hash32
    port: U16


@record
class PeersFound:
    """Addresses, `/ip4/A/tcp/P/p2p/ID`, the nearest first."""

    addresses: Annotated[tuple[Annotated[str, Max(limits.ADDRESS_BYTES_MAX)], ...], Max(limits.PEERS_FOUND_MAX)]


def compute_point(peer_id: str) -> bytes:
    """The point of a peer; the distance of two points is their exclusive or, read as a number."""
    return hashlib.sha256(peer_id.encode()).digest()


def compute_distance(point: bytes, target: bytes) -> int:
    """The distance of two points (Maymounkov and Mazieres, Kademlia, section 2.1)."""
    return int.from_bytes(point, "big") ^ int.from_bytes(target, "big")
