"""Defects of the stock Kademlia: every test says what should hold, and strictly fails on py-libp2p 0.8.1.

That ours does hold is tested in test_kademlia.py.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.kad_dht.kad_dht import DHTMode, KadDHT
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.tools.anyio_service import background_trio_service
from multiaddr import Multiaddr

from node.p2p.errors import ProtocolUnsupported
from node.p2p.host import P2PHost, open_host
from node.p2p.identity import compute_peer_id, decode_peer_id

pytestmark = pytest.mark.leaves_open
stock_fails = pytest.mark.xfail(strict=True, reason="defect of py-libp2p 0.8.1, see docs/upstream.md")


@asynccontextmanager
async def open_stock(number: int, prefix: str = "/ours") -> AsyncIterator[tuple[P2PHost, KadDHT]]:
    async with open_host(bytes([number]) * 32, ["/ip4/127.0.0.1/tcp/0"]) as host:
        dht = KadDHT(
            host.libp2p_host,
            DHTMode.SERVER,
            protocol_prefix=TProtocol(prefix),
            enable_providers=False,
            enable_values=False,
        )
        async with background_trio_service(dht):
            yield host, dht


def get_info(host: P2PHost) -> PeerInfo:
    return PeerInfo(decode_peer_id(host.peer_id), [Multiaddr(host.addresses[0].split("/p2p/")[0])])


@stock_fails
async def test_two_networks_stay_apart() -> None:
    """Section 23: the prefix is kept and never used."""
    async with open_stock(1, "/ours") as (here, _), open_stock(2, "/theirs") as (there, _):
        await here.connect(there.addresses[0])
        with pytest.raises(ProtocolUnsupported):
            await here.open_stream(there.peer_id, "/ipfs/kad/1.0.0")


@stock_fails
async def test_what_one_peer_says_of_another_is_not_taken_for_true() -> None:
    """Section 23: the address of anybody, from anybody, goes into the peer store and the routing table."""
    victim = ID.from_base58(compute_peer_id(b"\x99" * 32))
    async with open_stock(1) as (here, dht), open_stock(2) as (liar, other):
        await other.routing_table.add_peer(PeerInfo(victim, [Multiaddr("/ip4/10.0.0.1/tcp/22")]))
        liar.libp2p_host.get_peerstore().add_addrs(victim, [Multiaddr("/ip4/10.0.0.1/tcp/22")], 1_000)
        here.libp2p_host.get_peerstore().add_addrs(get_info(liar).peer_id, get_info(liar).addrs, 1_000)
        await here.connect(liar.addresses[0])
        with trio.move_on_after(3):
            await dht.peer_routing._query_peer_for_closest(get_info(liar).peer_id, victim.to_bytes())  # noqa: SLF001
        assert not dht.routing_table.peer_in_table(victim)
