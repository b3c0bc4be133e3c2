"""A host that nobody can dial is reached through a relay, which can neither read nor impersonate."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio
from libp2p.relay.circuit_v2.pb.circuit_pb2 import HopMessage
from libp2p.utils import encode_varint_prefixed

from node.p2p.acceptance import Acceptance
from node.p2p.address import decode_address, split_circuit
from node.p2p.circuits import Circuits, open_circuits
from node.p2p.errors import AddressInvalid, PeerUnreachable
from node.p2p.framing import FramedStream
from node.p2p.host import P2PHost, open_host
from node.p2p.identity import compute_peer_id, decode_peer_id
from node.p2p.negotiation import propose_protocol
from node.p2p.pubsub import PubSub, open_pubsub
from tests.integration.node.p2p.mesh import list_mesh
from tests.integration.node.p2p.test_hostile_pubsub import MuxedByteStream
from tests.integration.node.p2p.test_keeping import ANYWHERE, wait_until

ECHO = "/test/echo/1"
TOPIC = "/test/topic/1"
IDS = [compute_peer_id(bytes([number]) * 32) for number in range(4)]


async def echo(stream: FramedStream, _peer: str) -> None:
    while True:
        await stream.send(await stream.receive())


async def open_behind(stack: AsyncExitStack, relay: P2PHost, number: int) -> tuple[P2PHost, Circuits]:
    """A host that listens nowhere, with a reservation at the relay."""
    host = await stack.enter_async_context(open_host(bytes([number]) * 32, []))
    host.serve(ECHO, echo)
    circuits = await stack.enter_async_context(open_circuits(host, [relay.addresses[0]]))
    await wait_until(lambda: bool(circuits.addresses))
    return host, circuits


async def test_two_that_nobody_can_dial_talk_through_a_relay() -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_host(b"\x01" * 32, [ANYWHERE]))
        await stack.enter_async_context(open_circuits(relay, reservations_max=4))
        here, _ = await open_behind(stack, relay, 2)
        there, behind = await open_behind(stack, relay, 3)
        assert await here.connect(behind.addresses[0]) == there.peer_id
        async with await here.open_stream(there.peer_id, ECHO) as stream:
            for size in (1, 2_300, 500_000):
                await stream.send(bytes(size))
                assert len(await stream.receive()) == size
        assert there.get_remote_ip(here.peer_id) is None, "the relay's address is not the peer's"
        assert there.get_remote_ip(relay.peer_id) == "127.0.0.1"


async def test_a_circuit_that_ends_leaves_those_of_others_to_the_same_peer() -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_host(b"\x01" * 32, [ANYWHERE]))
        await stack.enter_async_context(open_circuits(relay, reservations_max=4))
        there, behind = await open_behind(stack, relay, 3)
        stays, _ = await open_behind(stack, relay, 4)
        for number in (2, 5):  # who comes before, and who comes after
            async with open_host(bytes([number]) * 32, []) as leaves, open_circuits(leaves):
                await leaves.connect(behind.addresses[0])
                if number == 2:
                    await stays.connect(behind.addresses[0])
                    stream = await stack.enter_async_context(await stays.open_stream(there.peer_id, ECHO))
            await wait_until(lambda: len(there.peers()) == 2)
            await wait_until(lambda: len(relay.peers()) == 2)
            await stream.send(b"still here")
            with trio.fail_after(5):
                assert await stream.receive() == b"still here"


async def test_topics_reach_who_is_behind_a_relay() -> None:
    got: list[tuple[str, bytes]] = []

    def subscribe(name: str) -> object:
        def receive(_peer: str, data: bytes) -> Acceptance:
            got.append((name, data))
            return Acceptance.ACCEPT

        return lambda pubsub: pubsub.subscribe(TOPIC, receive)

    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_host(b"\x01" * 32, [ANYWHERE]))
        await stack.enter_async_context(open_circuits(relay, reservations_max=4))
        there, behind = await open_behind(stack, relay, 3)
        here, _ = await open_behind(stack, relay, 2)
        topics: list[PubSub] = [
            await stack.enter_async_context(open_pubsub(host, lambda _who, _why: None, subscribe(name)))  # type: ignore[arg-type]
            for name, host in (("here", here), ("there", there))
        ]
        await here.connect(behind.addresses[0])
        await wait_until(lambda: there.peer_id in list_mesh(topics[0], TOPIC))
        topics[0].publish(TOPIC, b"across")
        await wait_until(lambda: got == [("there", b"across")])


async def test_a_relay_that_comes_back_is_reserved_at_again() -> None:
    async with open_host(b"\x01" * 32, [ANYWHERE]) as relay:
        port, address = relay.addresses[0].split("/")[4], relay.addresses[0]
    async with open_host(b"\x03" * 32, []) as there, open_circuits(there, [address]) as behind:
        for was_gone in (False, True):
            async with (
                open_host(b"\x01" * 32, [f"/ip4/127.0.0.1/tcp/{port}"]) as relay,
                open_circuits(relay, reservations_max=4),
                open_host(b"\x02" * 32, []) as here,
                open_circuits(here),
            ):
                await wait_until(lambda: bool(behind.addresses))
                assert await here.connect(behind.addresses[0]) == there.peer_id
            if not was_gone:
                await wait_until(lambda: not behind.addresses)


async def test_nobody_reserves_in_the_name_of_others_and_takes_their_places() -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_host(b"\x01" * 32, [ANYWHERE]))
        await stack.enter_async_context(open_circuits(relay, reservations_max=2))
        greedy = await stack.enter_async_context(open_host(b"\x09" * 32, []))
        await greedy.connect(relay.addresses[0])
        for name in IDS:
            stream = MuxedByteStream(await greedy.libp2p_host.get_network().new_stream(decode_peer_id(relay.peer_id)))
            await propose_protocol(stream, "/libp2p/circuit/relay/0.2.0/hop")
            claim = HopMessage(type=HopMessage.RESERVE, peer={"id": decode_peer_id(name).to_bytes()})
            await stream.write(encode_varint_prefixed(claim.SerializeToString()))
            with trio.fail_after(5):
                assert await stream.read(1_000)
            await stream.reset()
        _, behind = await open_behind(stack, relay, 3)
        assert behind.addresses


async def test_who_is_not_there_is_unreachable_and_so_is_everybody_without_a_relay() -> None:
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(open_host(b"\x01" * 32, [ANYWHERE]))
        await stack.enter_async_context(open_circuits(relay, reservations_max=2))
        here = await stack.enter_async_context(open_host(b"\x02" * 32, []))
        nobody = f"{relay.addresses[0]}/p2p-circuit/p2p/{IDS[3]}"
        with pytest.raises(PeerUnreachable, match="nobody through a relay"):
            await here.connect(nobody)
        await stack.enter_async_context(open_circuits(here))
        with pytest.raises(PeerUnreachable):
            await here.connect(nobody)


@pytest.mark.parametrize(
    "address",
    [
        f"/p2p-circuit/p2p/{IDS[1]}",
        f"/ip4/1.2.3.4/tcp/1/p2p-circuit/p2p/{IDS[1]}",
        f"/ip4/1.2.3.4/tcp/1/p2p/{IDS[1]}/p2p-circuit",
        f"/ip4/1.2.3.4/tcp/1/p2p/{IDS[1]}/p2p-circuit/p2p/{IDS[1]}",
        f"/ip4/1.2.3.4/tcp/1/p2p/{IDS[1]}/p2p-circuit/p2p/{IDS[2]}/p2p-circuit/p2p/{IDS[3]}",
    ],
)
def test_addresses_through_no_relay_or_several_are_refused(address: str) -> None:
    with pytest.raises(AddressInvalid):
        decode_address(address)


def test_an_address_through_a_relay_names_the_peer_behind() -> None:
    address = f"/ip4/1.2.3.4/tcp/1/p2p/{IDS[1]}/p2p-circuit/p2p/{IDS[2]}"
    assert decode_address(address)[1] == IDS[2]
    assert split_circuit(address) == (f"/ip4/1.2.3.4/tcp/1/p2p/{IDS[1]}", IDS[2])


async def test_a_relay_is_named_by_its_own_address() -> None:
    async with open_host(b"\x02" * 32, []) as here:
        for relay in (IDS[1], f"/ip4/1.2.3.4/tcp/1/p2p/{IDS[1]}/p2p-circuit/p2p/{IDS[2]}", "nonsense"):
            with pytest.raises(AddressInvalid):
                await open_circuits(here, [relay]).__aenter__()
