"""A host under abuse: garbage, floods, idle sockets, impostors. It stays up, and honest peers still get in at once."""

from __future__ import annotations

import random
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
import trio
import trio.lowlevel
from libp2p import new_host
from libp2p.custom_types import TProtocol
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr import Multiaddr

from node.p2p.admission import AdmissionLimits
from node.p2p.bytestream import MuxedByteStream
from node.p2p.errors import NetworkError, PeerUnreachable, ProtocolUnsupported, RequestRefused, StreamReset
from node.p2p.frame_decoder import HEADER
from node.p2p.host import HostLimits, P2PHost, open_host
from node.p2p.identity import compute_key_pair, decode_peer_id
from node.p2p.negotiation import propose_protocol
from node.p2p.request import request
from tests.integration.node.p2p import peer as served
from tests.integration.node.p2p.processes import PeerProcess, peer_process

QUICK_CONNECT_S = 3.0  # a lock-out lasts at least the 5 s of the upgrade timeout
GARBAGE_COUNT = 300


@pytest.fixture
async def host() -> AsyncIterator[P2PHost]:
    async with open_host(b"\x20" * 32, []) as opened:
        yield opened


@pytest.fixture
async def remote() -> AsyncIterator[PeerProcess]:
    async with peer_process(2) as process:
        yield process


async def check_echo(host: P2PHost, address: str) -> None:
    with trio.fail_after(QUICK_CONNECT_S):
        async with await host.open_stream(address, served.ECHO) as stream:
            await stream.send(b"honest")
            assert await stream.receive() == b"honest"


async def open_raw(host: P2PHost, peer_id: str) -> MuxedByteStream:
    return MuxedByteStream(await host.libp2p_host.get_network().new_stream(decode_peer_id(peer_id)))


async def send_garbage(host: P2PHost, peer_id: str, kind: int, noise: random.Random) -> None:
    stream = await open_raw(host, peer_id)
    try:
        match kind:
            case 0:
                await stream.write(noise.randbytes(noise.randrange(1, 400)))
            case 1:  # greeting and proposal that are not UTF-8
                await stream.write(b"\x13/multistream/1.0.0\n" + b"\x03\xff\xfe\n")
            case 2:  # a message of 2^63 bytes
                await stream.write(b"\xff" * 8 + b"\x7f")
            case 3:
                await stream.write(b"\x13/multistream/9.9.9\n")
            case 4:  # frames that break the protocol on top
                await propose_protocol(stream, served.STRICT)
                await stream.write((9).to_bytes(HEADER.size, "big") + b"garbage!!")
            case 5:  # a frame of 4 GiB
                await propose_protocol(stream, served.STRICT)
                await stream.write(b"\xff\xff\xff\xff" + noise.randbytes(100))
            case 6:  # a frame that never ends
                await propose_protocol(stream, served.STRICT)
                await stream.write((1000).to_bytes(HEADER.size, "big") + b"cut")
                await stream.finish()
                return
        await stream.read(1000)
    except NetworkError:
        pass
    finally:
        await stream.reset()


async def test_garbage_streams_leave_the_host_standing(host: P2PHost, remote: PeerProcess) -> None:
    noise = random.Random(1)
    await host.connect(remote.address)
    async with await host.open_stream(remote.address, served.ECHO, limits=served.QUICK) as bystander:
        async with trio.open_nursery() as nursery:
            for n in range(GARBAGE_COUNT):
                nursery.start_soon(send_garbage, host, remote.peer_id, n % 7, noise)
                if n % 20 == 19:
                    await trio.lowlevel.checkpoint()
        await bystander.send(b"unharmed")
        assert await bystander.receive() == b"unharmed"
    await check_echo(host, remote.address)


async def test_a_failing_handler_costs_its_own_stream_only(host: P2PHost, remote: PeerProcess) -> None:
    async with await host.open_stream(remote.address, served.ECHO) as bystander:
        for _ in range(20):
            async with await host.open_stream(remote.address, served.CRASH) as stream:
                await stream.send(b"go")
                with pytest.raises(StreamReset):
                    await stream.receive()
        await bystander.send(b"unharmed")
        assert await bystander.receive() == b"unharmed"


async def test_garbage_sockets_lock_nobody_out(host: P2PHost, remote: PeerProcess) -> None:
    noise = random.Random(2)
    for n in range(GARBAGE_COUNT):
        with socket.create_connection(("127.0.0.1", remote.port)) as sock:
            sock.sendall(noise.randbytes(n + 1))
    await check_echo(host, remote.address)


async def test_idle_sockets_lock_nobody_out(host: P2PHost, remote: PeerProcess) -> None:
    with ExitStack() as stack:
        for _ in range(GARBAGE_COUNT):
            stack.enter_context(socket.create_connection(("127.0.0.1", remote.port)))
        await check_echo(host, remote.address)


async def test_nothing_can_be_pushed_at_us(host: P2PHost, remote: PeerProcess) -> None:
    with pytest.raises(ProtocolUnsupported):
        await host.open_stream(remote.address, "/ipfs/id/push/1.0.0")
    async with await host.open_stream(remote.address, "/ipfs/id/1.0.0"):
        pass


async def test_plaintext_is_refused(remote: PeerProcess) -> None:
    key_pair = compute_key_pair(b"\x21" * 32)
    impostor = new_host(
        key_pair=key_pair, sec_opt={TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(key_pair, peerstore=None)}
    )
    async with impostor.run([]):
        address = Multiaddr(remote.address.rsplit("/p2p/", 1)[0])
        with trio.fail_after(10.0), pytest.raises(Exception, match="unable to connect"):
            await impostor.connect(PeerInfo(ID.from_base58(remote.peer_id), [address]))
        await impostor.close()


async def test_connection_limits_hold_and_places_are_given_back() -> None:
    limits = HostLimits(connections_max=3)
    async with open_host(b"\x22" * 32, [served.LISTEN], limits=limits) as server:
        server.serve(served.ECHO, served.echo)
        for n in range(10):  # more than there are places, one after another
            async with open_host(bytes([0x30 + n]) * 32, []) as visitor:
                await check_echo(visitor, server.addresses[0])
        async with (
            open_host(b"\x40" * 32, []) as first,
            open_host(b"\x41" * 32, []) as second,
            open_host(b"\x42" * 32, []) as third,
            open_host(b"\x43" * 32, []) as late,
        ):
            for visitor in (first, second, third):
                await check_echo(visitor, server.addresses[0])
            with pytest.raises(NetworkError):
                await check_echo(late, server.addresses[0])
            for visitor in (first, second, third):
                await check_echo(visitor, server.addresses[0])


async def test_connections_per_ip_are_limited() -> None:
    limits = HostLimits(admission=AdmissionLimits(connections_per_ip_max=2))
    async with (
        open_host(b"\x23" * 32, [served.LISTEN], limits=limits) as server,
        open_host(b"\x50" * 32, []) as first,
        open_host(b"\x51" * 32, []) as second,
        open_host(b"\x52" * 32, []) as third,
    ):
        server.serve(served.ECHO, served.echo)
        await check_echo(first, server.addresses[0])
        await check_echo(second, server.addresses[0])
        with pytest.raises(PeerUnreachable):
            await third.connect(server.addresses[0])
        await first.disconnect(server.peer_id)
        with trio.fail_after(QUICK_CONNECT_S):
            while len(server.peers()) > 1:
                await trio.lowlevel.checkpoint()
        await check_echo(third, server.addresses[0])


async def test_inbound_streams_of_a_peer_are_limited_before_negotiation() -> None:
    limits = HostLimits(inbound_streams_per_peer_max=5)
    async with (
        open_host(b"\x24" * 32, [served.LISTEN], limits=limits) as server,
        open_host(b"\x53" * 32, []) as greedy,
        open_host(b"\x54" * 32, []) as modest,
    ):
        server.serve(served.ECHO, served.echo)
        await greedy.connect(server.addresses[0])
        mute = [await open_raw(greedy, server.peer_id) for _ in range(40)]
        with pytest.raises(NetworkError):
            await check_echo(greedy, server.addresses[0])
        await check_echo(modest, server.addresses[0])
        for stream in mute:
            await stream.reset()


async def test_cancelled_writes_at_any_moment_leave_the_connection_whole(host: P2PHost, remote: PeerProcess) -> None:
    noise = random.Random(3)
    async with await host.open_stream(remote.address, served.ECHO, limits=served.QUICK) as bystander:
        for n in range(60):
            stream = await host.open_stream(remote.address, served.SINK)
            with trio.move_on_after(noise.random() * 0.003) as scope:
                while True:
                    await stream.send(bytes(1 << 20))
            assert scope.cancelled_caught
            stream.reset("test over")
            await stream.wait_ended()
            await bystander.send(bytes([n]))
            assert await bystander.receive() == bytes([n])


async def test_who_asks_too_often_is_refused_and_nobody_else_is() -> None:
    answered: Counter[str] = Counter()

    async def answer(body: bytes, peer: str) -> bytes:
        answered[peer] += 1
        return body

    async with (
        open_host(b"\x25" * 32, [served.LISTEN]) as server,
        open_host(b"\x55" * 32, []) as greedy,
        open_host(b"\x56" * 32, []) as modest,
    ):
        server.serve_requests("/test/rated/1", answer, requests_per_s=0.5, requests_burst=5)
        await greedy.connect(server.addresses[0])
        for _ in range(5):
            await request(greedy, server.peer_id, "/test/rated/1", b"more")
        with pytest.raises(RequestRefused, match="too many"):
            await request(greedy, server.peer_id, "/test/rated/1", b"more")
        assert await request(modest, server.addresses[0], "/test/rated/1", b"once") == b"once"
        assert answered == {greedy.peer_id: 5, modest.peer_id: 1}
