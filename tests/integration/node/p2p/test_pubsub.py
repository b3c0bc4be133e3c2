"""Topics over real hosts: everybody gets every message once; who passes on what is false is found out."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from node.p2p.acceptance import Acceptance
from node.p2p.host import P2PHost, open_host
from node.p2p.pubsub import PubSub, open_pubsub
from proto_specs.limits import GOSSIP_BYTES_MAX
from tests.integration.node.p2p.mesh import list_mesh

TOPIC = "/myelin/test/votes/1"


@dataclass
class Peer:
    """A host with one topic, and what came."""

    judge: Callable[[bytes], Acceptance] = lambda _data: Acceptance.ACCEPT
    got: Counter[bytes] = field(default_factory=Counter)
    blamed: list[str] = field(default_factory=list)
    host: P2PHost = field(init=False)
    pubsub: PubSub = field(init=False)
    news: trio.Event = field(default_factory=trio.Event)

    def receive(self, _peer: str, data: bytes) -> Acceptance:
        self.got[data] += 1
        self.news.set()
        self.news = trio.Event()
        return self.judge(data)

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        with trio.fail_after(15):
            while not holds():
                with trio.move_on_after(0.05):
                    await self.news.wait()


@asynccontextmanager
async def open_peers(*peers: Peer, line: bool = False) -> AsyncIterator[None]:
    """All connected to all, or each to the next one only; returns when the meshes have formed."""
    async with AsyncExitStack() as stack:
        for number, peer in enumerate(peers):
            peer.host = await stack.enter_async_context(open_host(bytes([number + 1]) * 32, ["/ip4/127.0.0.1/tcp/0"]))
            blame = peer.blamed.append
            opened = open_pubsub(
                peer.host,
                lambda who, _why, blame=blame: blame(who),  # type: ignore[misc]
                lambda pubsub, peer=peer: pubsub.subscribe(TOPIC, peer.receive),  # type: ignore[misc]
            )
            peer.pubsub = await stack.enter_async_context(opened)
        for place, peer in enumerate(peers):
            for other in peers[place + 1 : place + 2] if line else peers[place + 1 :]:
                await peer.host.connect(other.host.addresses[0])
        neighbours = [
            (1 if place in (0, len(peers) - 1) else 2) if line else len(peers) - 1 for place in range(len(peers))
        ]
        for peer, count in zip(peers, neighbours, strict=True):
            await peer.wait_until(lambda peer=peer, count=count: len(list_mesh(peer.pubsub, TOPIC)) == count)  # type: ignore[misc]
        yield


async def test_everybody_gets_everything_once() -> None:
    peers = [Peer() for _ in range(4)]
    async with open_peers(*peers):
        sent = [b"%d %d" % (who, number) for who in range(4) for number in range(10)]
        for one in sent:
            peers[int(one.split()[0])].pubsub.publish(TOPIC, one)
        for who, peer in enumerate(peers):
            others = Counter(one for one in sent if int(one.split()[0]) != who)
            await peer.wait_until(lambda peer=peer, others=others: peer.got >= others)  # type: ignore[misc]
            assert peer.got == others, "each once, and none of its own"
    assert not any(peer.blamed for peer in peers)


async def test_messages_cross_those_who_only_pass_them_on() -> None:
    first, between, last = Peer(), Peer(), Peer()
    async with open_peers(first, between, last, line=True):
        first.pubsub.publish(TOPIC, b"far")
        await last.wait_until(lambda: last.got[b"far"] == 1)


async def test_what_is_ignored_or_rejected_goes_no_further() -> None:
    first, between, last = Peer(), Peer(judge=lambda data: Acceptance(data.split()[0].decode())), Peer()
    async with open_peers(first, between, last, line=True):
        for data in (b"reject 1", b"ignore 1", b"accept 1"):
            first.pubsub.publish(TOPIC, data)
        await last.wait_until(lambda: bool(last.got))
        assert last.got == Counter({b"accept 1": 1})
        assert between.blamed == [first.host.peer_id]


async def test_a_burst_is_not_lost() -> None:
    """Stock drops all but 32 of them."""
    first, other = Peer(), Peer()
    async with open_peers(first, other):
        sent = [b"%d" % number for number in range(300)]
        for one in sent:
            first.pubsub.publish(TOPIC, one)
        await other.wait_until(lambda: len(other.got) == len(sent))


async def test_the_largest_message_arrives() -> None:
    first, other = Peer(), Peer()
    async with open_peers(first, other):
        first.pubsub.publish(TOPIC, bytes(GOSSIP_BYTES_MAX))
        await other.wait_until(lambda: bool(other.got))
        with pytest.raises(AssertionError, match="bounds"):
            first.pubsub.publish(TOPIC, bytes(GOSSIP_BYTES_MAX + 1))


async def test_a_peer_that_was_gone_is_in_the_mesh_again() -> None:
    first, other = Peer(), Peer()
    async with open_peers(first, other):
        await first.host.disconnect(other.host.peer_id)
        await first.wait_until(lambda: not first.pubsub.list_peers(TOPIC))
        await first.host.connect(other.host.addresses[0])
        await first.wait_until(lambda: other.host.peer_id in list_mesh(first.pubsub, TOPIC))
        first.pubsub.publish(TOPIC, b"again")
        await other.wait_until(lambda: other.got[b"again"] == 1)


async def test_who_was_connected_before_is_heard() -> None:
    """Stock learns of a peer only when it connects."""
    first, other = Peer(), Peer()
    async with AsyncExitStack() as stack:
        for number, peer in enumerate((first, other)):
            peer.host = await stack.enter_async_context(open_host(bytes([number + 1]) * 32, ["/ip4/127.0.0.1/tcp/0"]))
        await first.host.connect(other.host.addresses[0])
        for peer in (first, other):
            opened = open_pubsub(
                peer.host,
                lambda _who, _why: None,
                lambda pubsub, peer=peer: pubsub.subscribe(TOPIC, peer.receive),  # type: ignore[misc]
            )
            peer.pubsub = await stack.enter_async_context(opened)
        await first.wait_until(lambda: other.host.peer_id in list_mesh(first.pubsub, TOPIC))
        first.pubsub.publish(TOPIC, b"heard")
        await other.wait_until(lambda: other.got[b"heard"] == 1)
