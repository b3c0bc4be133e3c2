"""Topics under abuse: what a peer sends by hand costs itself alone, and honest peers hear each other throughout."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import trio
from libp2p.abc import INetStream
from libp2p.peer.id import ID
from libp2p.peer.peerstore import env_to_send_in_RPC
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11
from libp2p.pubsub.pb import rpc_pb2
from libp2p.utils import encode_uvarint
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from node.p2p.acceptance import Acceptance
from node.p2p.bytestream import MuxedByteStream
from node.p2p.errors import NetworkError
from node.p2p.gossipsub import OUTBOX_BYTES_MAX, RPC_BYTES_MAX, SERVED_TIMES_MAX, encode_rpc
from node.p2p.host import P2PHost, open_host
from node.p2p.identity import compute_peer_id, decode_peer_id
from node.p2p.negotiation import propose_protocol
from node.p2p.outbox import Outbox
from proto_specs.types.gossip import compute_message_id
from tests.integration.node.p2p.mesh import list_mesh
from tests.integration.node.p2p.test_pubsub import TOPIC, Peer, open_peers


class Attacker:
    """Speaks the topic protocol by hand to one peer, and keeps what comes back."""

    def __init__(self, host: P2PHost, target: str) -> None:
        self.host = host
        self._target = target
        self.heard: list[rpc_pb2.RPC] = []

    async def open(self) -> MuxedByteStream:
        stream = MuxedByteStream(await self.host.libp2p_host.get_network().new_stream(decode_peer_id(self._target)))
        await propose_protocol(stream, PROTOCOL_ID_V11)
        return stream

    async def send(self, *rpcs: rpc_pb2.RPC) -> None:
        stream = await self.open()
        for rpc in rpcs:
            await stream.write(encode_rpc(rpc))

    async def listen(self, stream: INetStream) -> None:
        """Collect what the target sends us on its own stream."""
        while True:
            rpc = rpc_pb2.RPC()
            rpc.ParseFromString(await read_varint_prefixed_bytes_limited(stream, RPC_BYTES_MAX))
            self.heard.append(rpc)

    def count(self, data: bytes) -> int:
        return sum(one.data == data for rpc in self.heard for one in rpc.publish)


@asynccontextmanager
async def open_attack(target: Peer, *, reads: bool = True) -> AsyncIterator[Attacker]:
    async with open_host(b"\x66" * 32, []) as host:
        attacker = Attacker(host, target.host.peer_id)

        async def on_stream(stream: INetStream) -> None:
            if reads:
                await attacker.listen(stream)
            else:
                await trio.sleep_forever()

        host.libp2p_host.set_stream_handler(PROTOCOL_ID_V11, on_stream)
        await host.connect(target.host.addresses[0])
        yield attacker


async def check_topic(first: Peer, other: Peer, data: bytes) -> None:
    first.pubsub.publish(TOPIC, data)
    await other.wait_until(lambda: other.got[data] == 1)


def make_garbage(kind: int, noise: random.Random) -> bytes:
    match kind:
        case 0:
            return noise.randbytes(noise.randrange(1, 300))
        case 1:  # a length of 2^63
            return b"\xff" * 8 + b"\x7f"
        case 2:  # a length above the bound
            return encode_uvarint(RPC_BYTES_MAX + 1)
        case 3:  # no protobuf
            return b"\x05\xff\xff\xff\xff\xff"
        case 4:  # peer ids that are none, in every place there is one
            rpc = rpc_pb2.RPC()
            rpc.control.prune.add(topicID=TOPIC).peers.add(peerID=b"\xff", signedPeerRecord=b"\xff" * 30)
            rpc.senderRecord = noise.randbytes(40)
            return encode_rpc(rpc)
        case _:  # a message with an author, one with two topics, one with none
            rpc = rpc_pb2.RPC()
            rpc.publish.add(data=b"a", topicIDs=[TOPIC], from_id=b"\x01")
            rpc.publish.add(data=b"b", topicIDs=[TOPIC, TOPIC])
            rpc.publish.add(data=b"c")
            return encode_rpc(rpc)


async def test_garbage_costs_its_stream_and_is_held_against_its_sender() -> None:
    first, other = Peer(), Peer()
    noise = random.Random(1)
    async with open_peers(first, other), open_attack(other) as attacker:
        for number in range(60):
            stream = await attacker.open()
            with suppress(NetworkError):
                await stream.write(make_garbage(number % 6, noise))
        await check_topic(first, other, b"after garbage")
        await other.wait_until(lambda: len(other.blamed) >= 30)
        assert set(other.blamed) == {attacker.host.peer_id}
        assert not first.blamed
        assert other.got == Counter({b"after garbage": 1})


async def test_what_is_asked_for_again_and_again_is_sent_twice_at_most() -> None:
    """An IWANT of 40,000 ids would else be answered with 40,000 copies in one piece of memory."""
    first, other = Peer(), Peer()
    data = bytes(64 << 10)
    async with open_peers(first, other), open_attack(other) as attacker:
        await check_topic(first, other, data)
        rpc = rpc_pb2.RPC()
        for _ in range(20):
            rpc.control.iwant.add(messageIDs=[compute_message_id(data)] * 2_000)
        await attacker.send(rpc, rpc)
        await check_topic(first, other, b"after")
        await attacker.send(rpc_pb2.RPC(control={"iwant": [{"messageIDs": [compute_message_id(b"after")]}]}))
        with trio.fail_after(5):
            while not attacker.count(b"after"):
                await trio.sleep(0.01)
        assert 1 <= attacker.count(data) <= SERVED_TIMES_MAX


async def test_nobody_is_dialled_and_nothing_is_learnt_from_what_a_peer_says_of_others() -> None:
    first, other = Peer(), Peer()
    async with (
        open_peers(first, other),
        open_host(b"\x67" * 32, ["/ip4/127.0.0.1/tcp/0"]) as bait,
        open_attack(other) as attacker,
    ):
        known = other.host.libp2p_host.get_peerstore()
        victim = decode_peer_id(bait.peer_id)
        known.add_addrs(victim, [bait.libp2p_host.get_addrs()[0]], 100)
        rpc = rpc_pb2.RPC()
        rpc.control.prune.add(topicID=TOPIC).peers.add(peerID=victim.to_bytes())
        envelope, _ = env_to_send_in_RPC(attacker.host.libp2p_host)
        rpc.senderRecord = envelope
        await attacker.send(rpc, rpc_pb2.RPC(publish=[{"data": b"next", "topicIDs": [TOPIC]}]))
        await other.wait_until(lambda: other.got[b"next"] == 1)
        assert bait.peers() == []
        assert known.get_peer_record(decode_peer_id(attacker.host.peer_id)) is None


async def test_topics_that_are_none_of_ours_leave_no_trace() -> None:
    first, other = Peer(), Peer()
    async with open_peers(first, other), open_attack(other) as attacker:
        rpc = rpc_pb2.RPC()
        for number in range(500):
            rpc.subscriptions.add(subscribe=True, topicid=f"/foreign/{number}")
            rpc.control.graft.add(topicID=f"/foreign/{number}")
            rpc.control.prune.add(topicID=f"/foreign/{number}", backoff=1 << 40)
        await attacker.send(rpc)
        await attacker.send(rpc_pb2.RPC(subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)]))
        await other.wait_until(lambda: attacker.host.peer_id in other.pubsub.list_peers(TOPIC))
        inner = other.pubsub._pubsub  # noqa: SLF001
        assert set(inner.peer_topics) == {TOPIC}
        assert set(other.pubsub._router.back_off) <= {TOPIC}  # noqa: SLF001
        await check_topic(first, other, b"after")


async def test_who_lies_is_blamed_for_each_lie() -> None:
    """What becomes of it is the peer manager's business: ten lies end in a ban."""
    first, other = Peer(), Peer(judge=lambda data: Acceptance.REJECT if data.startswith(b"lie") else Acceptance.ACCEPT)
    async with open_peers(first, other), open_attack(other) as attacker:
        await attacker.send(*(rpc_pb2.RPC(publish=[{"data": b"lie %d" % n, "topicIDs": [TOPIC]}]) for n in range(12)))
        await other.wait_until(lambda: len(other.blamed) == 12)
        assert set(other.blamed) == {attacker.host.peer_id}
        assert not first.got


def test_an_outbox_is_bounded_in_bytes_and_sends_control_first() -> None:
    async def drain() -> list[bytes | None]:
        return [await outbox.pop() for _ in range(4)]

    outbox = Outbox(bytes_max=10, control_max=2)
    assert [outbox.push(b"12345", is_control=False) for _ in range(3)] == [True, True, False]
    assert [outbox.push(b"c", is_control=True) for _ in range(3)] == [True, True, False]
    assert trio.run(drain) == [b"c", b"c", b"12345", b"12345"]


async def test_who_does_not_read_costs_no_more_than_its_outbox() -> None:
    first, other = Peer(), Peer()
    async with open_peers(first, other), open_attack(first, reads=False) as attacker:
        await attacker.send(
            rpc_pb2.RPC(
                subscriptions=[rpc_pb2.RPC.SubOpts(subscribe=True, topicid=TOPIC)],
                control={"graft": [{"topicID": TOPIC}]},
            )
        )
        await first.wait_until(lambda: attacker.host.peer_id in list_mesh(first.pubsub, TOPIC))
        sent = [number.to_bytes(2, "big") + bytes(200_000) for number in range(120)]
        for data in sent:
            first.pubsub.publish(TOPIC, data)
            await other.wait_until(lambda data=data: other.got[data] == 1)  # type: ignore[misc]
        outbox = first.pubsub._pubsub.outboxes[ID.from_base58(attacker.host.peer_id)]  # noqa: SLF001
        assert 0 < outbox._message_bytes <= OUTBOX_BYTES_MAX  # noqa: SLF001
        assert compute_peer_id(b"\x66" * 32) == attacker.host.peer_id
