"""Peers that nobody named are found, those of another chain are not, and no answer makes a node knock anywhere."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trio

from node.p2p.errors import RequestRefused
from node.p2p.host import open_host
from node.p2p.identity import compute_peer_id
from node.p2p.kademlia import PeerFinder, is_dialable
from node.p2p.request import request
from proto_specs.codec import decode, encode
from proto_specs.limits import PEERS_FOUND_MAX
from proto_specs.types.discovery import PEERS_PROTOCOL, FindPeers, PeersFound, compute_distance, compute_point
from tests.integration.node.p2p.test_keeping import Node, open_node, wait_until

GENESIS = b"\x01" * 32
ID = compute_peer_id(b"\x01" * 32)


@asynccontextmanager
async def open_finder(number: int, *named: str, genesis: bytes = GENESIS) -> AsyncIterator[tuple[Node, PeerFinder]]:
    """Runs only when told: `look_up` by the test."""
    async with open_node(number, *named, chain=genesis) as node:
        yield node, PeerFinder(node.host, node.book, node.manager.list_peers, genesis)


async def test_everybody_finds_everybody_through_one_named_peer() -> None:
    async with AsyncExitStack() as stack:
        first, _ = await stack.enter_async_context(open_finder(1))
        others = [await stack.enter_async_context(open_finder(n, first.address)) for n in range(2, 7)]
        await wait_until(lambda: len(first.manager.list_peers()) == 5)
        async with trio.open_nursery() as nursery:
            for node, finder in others:
                nursery.start_soon(finder.look_up, compute_point(node.peer_id))
        for node, finder in others:
            await finder.look_up(compute_point(node.peer_id))
        for node, _ in others:
            await wait_until(lambda node=node: len(node.manager.list_peers()) == 5)  # type: ignore[misc]


async def test_a_look_up_crosses_peers_that_know_only_their_neighbours() -> None:
    """A line: each has reached the next one only. The farthest is found from the near end, and nobody else is kept."""
    async with AsyncExitStack() as stack:
        line = [await stack.enter_async_context(open_finder(9))]
        for number in range(8, 3, -1):
            line.append(await stack.enter_async_context(open_finder(number, line[-1][0].address)))
            here, there = line[-1][0], line[-2][0]
            await wait_until(lambda here=here, there=there: here.manager.list_peers() == [there.peer_id])  # type: ignore[misc]
            there.manager._checked.clear()  # forgets who came, as after a restart  # noqa: SLF001
            there.manager._recheck_at_s[here.peer_id] = trio.current_time() + 100  # noqa: SLF001
        _, finder = line[-1]
        far = line[0][0].peer_id
        found = await finder.look_up(compute_point(far))
        assert found[0] == far
        points = [compute_distance(compute_point(peer), compute_point(far)) for peer in found]
        assert points == sorted(points)


async def test_chains_stay_apart() -> None:
    async with open_finder(1) as (here, _), open_host(b"\x66" * 32, []) as stranger:
        await stranger.connect(here.address)
        with pytest.raises(RequestRefused, match="another chain"):
            await request(stranger, here.peer_id, PEERS_PROTOCOL, encode(FindPeers(b"\x02" * 32, bytes(32), 4_000)))
        assert not here.book.known


async def test_nobody_is_told_of_whom_an_asker_only_claims() -> None:
    """It names a port; the address is the one it is seen at, and it is passed on only once it is one of us."""
    question = encode(FindPeers(GENESIS, bytes(32), 4_000))
    async with (
        open_finder(1) as (here, _),
        open_host(b"\x66" * 32, []) as unchecked,
        open_host(b"\x67" * 32, []) as other,
    ):
        await unchecked.connect(here.address)
        await request(unchecked, here.peer_id, PEERS_PROTOCOL, question)
        await other.connect(here.address)
        assert decode(PeersFound, await request(other, here.peer_id, PEERS_PROTOCOL, question)).addresses == ()
        assert not here.book.known


async def test_a_peer_that_tells_of_phantoms_is_asked_once_and_drives_out_nobody() -> None:
    async def lie(_body: bytes, _peer: str) -> bytes:
        count.append(1)
        ids = [compute_peer_id((1_000 * len(count) + n).to_bytes(32, "big")) for n in range(PEERS_FOUND_MAX)]
        return encode(PeersFound(tuple(f"/ip4/127.0.0.1/tcp/{1 + n}/p2p/{who}" for n, who in enumerate(ids))))

    count: list[int] = []
    async with open_node(2, chain=GENESIS) as liar, open_finder(1, liar.address) as (here, finder):
        liar.host.serve_requests(PEERS_PROTOCOL, lie)
        await wait_until(lambda: here.manager.list_peers() == [liar.peer_id])
        with trio.fail_after(5):
            await finder.look_up(bytes(32))
        assert len(count) == 1
        assert here.book.list_reached().keys() == {liar.peer_id}
        assert here.manager.list_peers() == [liar.peer_id]


@pytest.mark.parametrize(
    ("address", "teller", "expected"),
    [
        (f"/ip4/8.8.8.8/tcp/4001/p2p/{ID}", "9.9.9.9", True),
        (f"/ip6/2001:4860::1/tcp/4001/p2p/{ID}", "9.9.9.9", True),
        (f"/ip4/10.0.0.1/tcp/22/p2p/{ID}", "9.9.9.9", False),
        (f"/ip4/127.0.0.1/tcp/22/p2p/{ID}", "9.9.9.9", False),
        (f"/ip4/127.0.0.1/tcp/22/p2p/{ID}", "10.0.0.2", False),
        (f"/ip4/10.0.0.1/tcp/4001/p2p/{ID}", "10.0.0.2", True),
        (f"/ip4/127.0.0.1/tcp/4001/p2p/{ID}", "127.0.0.1", True),
        (f"/ip4/8.8.8.8/tcp/4001/p2p/{ID}", None, True),
        (f"/ip4/10.0.0.1/tcp/4001/p2p/{ID}", None, False),
        (f"/ip4/0.0.0.0/tcp/4001/p2p/{ID}", "127.0.0.1", False),
        (f"/ip4/224.0.0.1/tcp/4001/p2p/{ID}", "127.0.0.1", False),
        (f"/dns4/inside/tcp/4001/p2p/{ID}", "127.0.0.1", False),
        (f"/ip4/8.8.8.8/udp/4001/p2p/{ID}", "9.9.9.9", False),
        (ID, "9.9.9.9", False),
        ("nonsense", "9.9.9.9", False),
    ],
)
def test_what_is_dialled_on_hearsay(address: str, teller: str | None, expected: bool) -> None:
    assert is_dialable(address, teller) is expected
