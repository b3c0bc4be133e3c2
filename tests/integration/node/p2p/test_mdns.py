"""Peers on the local network find each other, those of another chain do not."""

from __future__ import annotations

import pytest
import trio

from node.p2p.host import open_host
from node.p2p.mdns import compute_service, decode_texts, expand, run_mdns
from node.p2p.peer_book import PeerBook
from tests.integration.node.p2p.test_keeping import open_node, wait_until

OURS, THEIRS = b"\xaa" * 32, b"\xbb" * 32


async def test_two_of_a_chain_meet_and_the_third_is_left_alone() -> None:
    async with open_node(1) as first, open_node(2) as other, open_node(3) as foreign, trio.open_nursery() as nursery:
        for node, genesis in ((first, OURS), (foreign, THEIRS), (other, OURS)):
            nursery.start_soon(run_mdns, node.host.addresses, genesis, node.manager.learn)
        await wait_until(lambda: first.manager.list_peers() == [other.peer_id])
        await wait_until(lambda: other.manager.list_peers() == [first.peer_id])
        assert not foreign.book.known
        nursery.cancel_scope.cancel()


def test_a_record_of_nonsense_adds_nobody() -> None:
    book = PeerBook(None, "")
    for address in decode_texts({b"dnsaddr": b"\xff\xfe", b"dnsaddr1": None, b"dnsaddr2": b"/ip4/1.2.3.4", b"x": b"y"}):
        book.add(address)
    assert not book.known
    assert len(decode_texts({b"dnsaddr%d" % n: b"/ip4/1.2.3.4" for n in range(100)})) == 8


async def test_listening_everywhere_is_told_as_every_address() -> None:
    async with open_host(b"\x01" * 32, ["/ip4/127.0.0.1/tcp/0"]) as host:
        assert expand(host.addresses) == host.addresses
    told = expand(["/ip4/0.0.0.0/tcp/4001/p2p/X"])
    assert "/ip4/127.0.0.1/tcp/4001/p2p/X" in told
    assert all(one.startswith("/ip4/") and one.endswith("/tcp/4001/p2p/X") for one in told)
    assert "/ip4/0.0.0.0/tcp/4001/p2p/X" not in told


@pytest.mark.parametrize("genesis", [OURS, THEIRS])
def test_a_service_is_of_one_chain(genesis: bytes) -> None:
    assert compute_service(genesis) == f"_p2p-{genesis.hex()[:8]}._udp.local."
