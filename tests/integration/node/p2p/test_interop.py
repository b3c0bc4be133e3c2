"""Ours and a plain libp2p host understand each other, whoever dials."""

from __future__ import annotations

import os

import pytest
import trio
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from multiaddr import Multiaddr

from node.p2p.host import open_host
from tests.integration.node.p2p import peer as served
from tests.integration.node.p2p.processes import peer_process

pytestmark = pytest.mark.leaves_open
SIZES = (1, 2300, 65_507, 65_536, 1 << 20, 3 << 20)


async def test_ours_dials_a_stock_host() -> None:
    async with peer_process(4, "stock") as remote, open_host(b"\x70" * 32, []) as host:
        async with await host.open_stream(
            remote.address, served.ECHO, max_frame_bytes=served.FRAME_BYTES_MAX, limits=served.QUICK
        ) as stream:
            for size in SIZES:
                body = os.urandom(size)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(stream.send, body)
                    assert await stream.receive() == body
        assert host.peers() == [remote.peer_id]


async def test_a_stock_host_dials_ours() -> None:
    stock = served.build_stock_host(b"\x71" * 32)
    async with peer_process(5) as remote, stock.run([]):
        peer_id = ID.from_base58(remote.peer_id)
        await stock.connect(PeerInfo(peer_id, [Multiaddr(remote.address.rsplit("/p2p/", 1)[0])]))
        stream = await stock.new_stream(peer_id, [TProtocol(served.ECHO)])
        for size in SIZES:
            body = os.urandom(size)
            frame = served.HEADER.pack(size) + body
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.write, frame)
                received = await served.read_frame_stock(stream)
            assert received == body
        await stream.close()
        await stock.close()
