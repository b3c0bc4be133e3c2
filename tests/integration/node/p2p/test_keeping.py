"""Connections kept between real hosts: who is named comes back, who is of another chain or lies is gone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import trio
from libp2p.pubsub.pb import rpc_pb2

from node.p2p.acceptance import Acceptance
from node.p2p.host import P2PHost, open_host
from node.p2p.identity import compute_peer_id
from node.p2p.peer_book import BAN_SCORE, PeerBook
from node.p2p.peer_manager import PeerManager
from node.p2p.pubsub import open_pubsub
from node.p2p.request import request
from tests.integration.node.p2p.test_hostile_pubsub import Attacker
from tests.integration.node.p2p.test_pubsub import TOPIC

STATUS = "/test/status/1"
ANYWHERE = "/ip4/127.0.0.1/tcp/0"


class Node:
    """A host whose connections are kept."""

    def __init__(self, host: P2PHost, book: PeerBook, manager: PeerManager) -> None:
        self.host = host
        self.book = book
        self.manager = manager

    @property
    def address(self) -> str:
        return self.host.addresses[0]

    @property
    def peer_id(self) -> str:
        return self.host.peer_id


@asynccontextmanager
async def open_node(
    number: int,
    *named: str,
    chain: bytes = b"ours",
    listen: str = ANYWHERE,
    path: Path | None = None,
    inbound_max: int = 100,
) -> AsyncIterator[Node]:
    async with open_host(bytes([number]) * 32, [listen]) as host:

        async def answer(_body: bytes, _peer: str) -> bytes:
            return chain

        async def is_ours(peer: str) -> bool:
            return await request(host, peer, STATUS, b"") == chain

        host.serve_requests(STATUS, answer)
        book = PeerBook(path, host.peer_id)
        book.load()
        for address in named:
            book.add(address, is_named=True)
        manager = PeerManager(host, book, is_ours, inbound_max=inbound_max)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(manager.run)
            yield Node(host, book, manager)
            nursery.cancel_scope.cancel()


async def wait_until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while not holds():
            await trio.sleep(0.02)


async def test_a_named_peer_that_comes_back_is_met_again() -> None:
    async with open_node(1) as there:
        port = int(there.address.split("/")[4])
        address = there.address
    async with open_node(2, address) as here:
        for _ in range(2):
            async with open_node(1, listen=f"/ip4/127.0.0.1/tcp/{port}") as there:
                await wait_until(lambda there=there: here.manager.list_peers() == [there.peer_id])  # type: ignore[misc]
                await wait_until(lambda there=there: there.manager.list_peers() == [here.peer_id])  # type: ignore[misc]
            await wait_until(lambda: here.manager.list_peers() == [])


async def test_a_peer_of_another_chain_is_left_by_both() -> None:
    async with open_node(1, chain=b"theirs") as there, open_node(2, there.address) as here:
        await wait_until(lambda: here.book.known[there.peer_id].failures > 0)
        await wait_until(lambda: not there.host.peers())
        assert here.manager.list_peers() == there.manager.list_peers() == []
        assert here.book.list_reached() == {}


async def test_who_lies_ten_times_is_gone_and_does_not_come_back_in() -> None:
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(open_node(1))
        await stack.enter_async_context(
            open_pubsub(
                here.host,
                here.manager.penalise,
                lambda pubsub: pubsub.subscribe(TOPIC, lambda _peer, _data: Acceptance.REJECT),
            )
        )
        liar = await stack.enter_async_context(open_host(b"\x66" * 32, []))
        await liar.connect(here.address)
        attacker = Attacker(liar, here.peer_id)
        lies = [rpc_pb2.RPC(publish=[{"data": b"%d" % n, "topicIDs": [TOPIC]}]) for n in range(BAN_SCORE)]
        await attacker.send(*lies)
        await wait_until(lambda: liar.peer_id not in here.host.peers())
        await wait_until(lambda: not liar.peers())
        await liar.connect(here.address)
        await wait_until(lambda: not liar.peers())
        async with open_host(b"\x67" * 32, []) as honest:
            await honest.connect(here.address)
            assert await request(honest, here.peer_id, STATUS, b"") == b"ours"


async def test_places_for_those_who_come_are_bounded_and_named_ones_have_theirs() -> None:
    named = open_host(b"\x03" * 32, [])
    async with named as expected, AsyncExitStack() as stack:
        here = await stack.enter_async_context(
            open_node(1, f"/ip4/127.0.0.1/tcp/9/p2p/{expected.peer_id}", inbound_max=2)
        )
        visitors = [await stack.enter_async_context(open_host(bytes([n]) * 32, [])) for n in range(10, 14)]
        for visitor in visitors:
            await visitor.connect(here.address)
        await wait_until(lambda: len(here.host.peers()) == 2)
        await expected.connect(here.address)
        async with open_node(4) as elsewhere:
            here.manager.learn([elsewhere.address])
            await wait_until(lambda: {expected.peer_id, elsewhere.peer_id} <= set(here.host.peers()))
        assert len(here.host.peers()) <= 4


async def test_a_network_is_found_again_without_the_named_peer(tmp_path: Path) -> None:
    path = tmp_path / "peers.json"
    async with open_node(1) as there:
        async with open_node(2, there.address, path=path) as here:
            await wait_until(lambda: here.manager.list_peers() == [there.peer_id])
        async with open_node(2, path=path) as here:
            await wait_until(lambda: here.manager.list_peers() == [there.peer_id])
    assert compute_peer_id(b"\x01" * 32) in path.read_text()
