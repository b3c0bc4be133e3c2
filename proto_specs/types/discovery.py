"""How a node asks another whom it knows."""

from __future__ import annotations

import hashlib
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U16, Max, record
from proto_specs.types.common import Hash32

PEERS_PROTOCOL = "/myelin/peers/1"


@record
class FindPeers:
    """Whom do you know near this point? `port` is where the asker itself can be reached, at the address it is seen at;
    0: nowhere."""

    genesis: Hash32
    target: Hash32
    port: U16


@record
class PeersFound:
    """Addresses, `/ip4/A/tcp/P/p2p/ID`, the nearest first."""

    addresses: Annotated[tuple[Annotated[str, Max(limits.ADDRESS_BYTES_MAX)], ...], Max(limits.PEERS_FOUND_MAX)]


def compute_point(peer_id: str) -> bytes:
    """Where a peer is: the distance of two points is their exclusive or, read as a number."""
    return hashlib.sha256(peer_id.encode()).digest()


def compute_distance(point: bytes, target: bytes) -> int:
    """How far two points are from each other (Maymounkov and Mazieres, Kademlia, section 2.1)."""
    return int.from_bytes(point, "big") ^ int.from_bytes(target, "big")
