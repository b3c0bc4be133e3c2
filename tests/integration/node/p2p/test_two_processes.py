"""Two real processes over loopback: round trips, large responses, and a peer that dies, hangs or comes back."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator

import pytest
import trio

from node.p2p.errors import (
    AddressInvalid,
    FrameTooLarge,
    ListenFailed,
    NetworkError,
    PeerUnreachable,
    ProtocolUnsupported,
    RequestRefused,
    RequestTimedOut,
    StreamClosed,
    StreamReset,
)
from node.p2p.framing import FramedStream, StreamLimits
from node.p2p.host import HostLimits, P2PHost, open_host
from node.p2p.identity import compute_peer_id
from node.p2p.request import request
from tests.integration.node.p2p import peer as served
from tests.integration.node.p2p.processes import PeerProcess, peer_process

OUR_SEED = b"\x10" * 32


@pytest.fixture
async def host() -> AsyncIterator[P2PHost]:
    async with open_host(OUR_SEED, []) as opened:
        yield opened


@pytest.fixture
async def remote() -> AsyncIterator[PeerProcess]:
    async with peer_process(1) as process:
        yield process


async def open_echo(host: P2PHost, where: str, limits: StreamLimits = served.QUICK) -> FramedStream:
    return await host.open_stream(where, served.ECHO, max_frame_bytes=served.FRAME_BYTES_MAX, limits=limits)


async def test_round_trips_of_all_sizes(host: P2PHost, remote: PeerProcess) -> None:
    assert remote.peer_id == compute_peer_id(b"\1" * 32)
    async with await open_echo(host, remote.address) as stream:
        assert stream.peer_id == remote.peer_id
        assert host.peers() == [remote.peer_id]
        for size in (1, 64, 2300, 65_507, 65_508, 65_536, 1 << 20, served.FRAME_BYTES_MAX):
            body = os.urandom(size)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.send, body)
                assert await stream.receive() == body


async def test_many_streams_share_the_connection_without_mixing(host: P2PHost, remote: PeerProcess) -> None:
    async def talk(n: int) -> None:
        async with await open_echo(host, remote.address) as stream:
            for k in range(20):
                body = bytes([n]) * (k * 3001 + 1)
                await stream.send(body)
                assert await stream.receive() == body

    async with trio.open_nursery() as nursery:
        for n in range(8):
            nursery.start_soon(talk, n)
    assert host.peers() == [remote.peer_id]


async def test_a_large_response_arrives_whole(host: P2PHost, remote: PeerProcess) -> None:
    size = 10 * 1024 * 1024
    body = await request(
        host, remote.address, served.BLOB, served.HEADER.pack(size), max_response_bytes=size, timeout_s=30.0
    )
    assert body == bytes(size)
    assert await request(host, remote.peer_id, served.BLOB, served.HEADER.pack(0)) == b""


async def test_requests_fail_with_their_own_errors(host: P2PHost, remote: PeerProcess) -> None:
    async def ask(size: int, protocol: str = served.BLOB, **options: float) -> bytes:
        return await request(host, remote.address, protocol, served.HEADER.pack(size), **options)  # type: ignore[arg-type]

    with pytest.raises(FrameTooLarge):
        await ask(1001, max_response_bytes=1000)
    with pytest.raises(RequestRefused, match="asks for too much"):
        await ask((1 << 30) + 1)
    with pytest.raises(RequestRefused, match="internal error"):
        await request(host, remote.address, served.BLOB, b"not a size")
    with pytest.raises(ProtocolUnsupported):
        await ask(1, protocol="/myelin-test/unheard-of/1")
    with pytest.raises(RequestTimedOut):
        await ask(1, protocol=served.SINK, timeout_s=0.3)
    assert await ask(3) == bytes(3)


async def test_a_killed_peer_is_noticed_at_once(host: P2PHost, remote: PeerProcess) -> None:
    async with await open_echo(host, remote.address, StreamLimits()) as stream:
        await stream.send(b"alive")
        assert await stream.receive() == b"alive"
        remote.kill()
        with trio.fail_after(1.0), pytest.raises(StreamReset):
            await stream.receive()
        assert host.peers() == []


async def test_a_stopped_peer_is_noticed_by_its_silence(host: P2PHost, remote: PeerProcess) -> None:
    async with await open_echo(host, remote.address) as stream:
        await stream.send(b"alive")
        assert await stream.receive() == b"alive"
        remote.stop()
        started_s = trio.current_time()
        with trio.fail_after(3 * served.QUICK.dead_peer_s), pytest.raises(PeerUnreachable, match="silent"):
            await stream.receive()
        assert trio.current_time() - started_s >= 0.5 * served.QUICK.dead_peer_s
        with trio.fail_after(1.0):
            while host.peers():  # the half-open connection goes with the stream, so that the next one dials
                await trio.lowlevel.checkpoint()
        with pytest.raises(PeerUnreachable):
            await host.open_stream(remote.address, served.ECHO, timeout_s=0.5)
        remote.go_on()
        async with await open_echo(host, remote.address) as again:
            await again.send(b"back")
            assert await again.receive() == b"back"


async def test_an_idle_stream_outlives_its_silence_limit(host: P2PHost, remote: PeerProcess) -> None:
    async with await open_echo(host, remote.address) as stream:
        with trio.move_on_after(3 * served.QUICK.dead_peer_s):
            await stream.receive()
        await stream.send(b"still here")
        assert await stream.receive() == b"still here"


async def test_a_stalled_reader_holds_its_sender_back_and_nobody_else(host: P2PHost, remote: PeerProcess) -> None:
    async with await host.open_stream(remote.address, served.SINK, limits=served.QUICK) as stuck:
        with trio.move_on_after(1.0) as scope:
            while True:
                await stuck.send(bytes(1 << 20))
        assert scope.cancelled_caught
        async with await open_echo(host, remote.address) as stream:
            await stream.send(b"through")
            with trio.fail_after(1.0):
                assert await stream.receive() == b"through"


async def test_redial_after_failure_is_immediate(host: P2PHost) -> None:
    async with peer_process(1) as first:
        address = first.address
        await host.connect(address)
        first.kill()
        await first.process.wait()
        with trio.fail_after(1.0):
            while host.peers():
                await trio.lowlevel.checkpoint()
    started_s = trio.current_time()
    for _ in range(5):
        with pytest.raises(PeerUnreachable):
            await host.connect(address)
    assert trio.current_time() - started_s < 2.0  # libp2p's own retries pause for 0.7 s per dial
    async with peer_process(1) as second:  # same identity, another port
        started_s = trio.current_time()
        assert await host.connect(second.address) == second.peer_id
        assert trio.current_time() - started_s < 2.0  # libp2p refuses for 60 s


async def test_streams_of_one_peer_are_limited_per_protocol(host: P2PHost, remote: PeerProcess) -> None:
    streams = [await open_echo(host, remote.address) for _ in range(8)]
    for stream in streams:
        await stream.send(b"x")
        assert await stream.receive() == b"x"
    one_more = await open_echo(host, remote.address)
    with pytest.raises(StreamReset):
        await one_more.receive()
    async with open_host(b"\x11" * 32, []) as other, await open_echo(other, remote.address) as stream:
        await stream.send(b"another peer")
        assert await stream.receive() == b"another peer"
    await streams.pop().close()
    with trio.fail_after(2.0):
        while True:  # the place is free once both sides have ended the stream
            async with await open_echo(host, remote.address) as stream:
                try:
                    await stream.send(b"x")
                    assert await stream.receive() == b"x"
                    break
                except NetworkError:
                    continue


async def test_an_end_by_the_peer_is_orderly(host: P2PHost) -> None:
    async def say_one_word(stream: FramedStream, peer_id: str) -> None:
        await stream.send(b"word")

    async with open_host(b"\x12" * 32, [served.LISTEN]) as server:
        server.serve("/word/1", say_one_word)
        async with await host.open_stream(server.addresses[0], "/word/1") as stream:
            assert await stream.receive() == b"word"
            with pytest.raises(StreamClosed):
                await stream.receive()


async def test_leaving_a_host_closes_its_connections(remote: PeerProcess) -> None:
    async with open_host(OUR_SEED, [served.LISTEN]) as watcher:
        async with open_host(b"\x13" * 32, []) as leaver:
            await leaver.connect(watcher.addresses[0])
            assert watcher.peers() == [leaver.peer_id]
            started_s = trio.current_time()
        assert trio.current_time() - started_s < 1.0
        with trio.fail_after(1.0):
            while watcher.peers():
                await trio.lowlevel.checkpoint()


async def test_bad_addresses_and_ports_have_typed_errors(host: P2PHost, remote: PeerProcess) -> None:
    for bad in ("", "nonsense", "/ip4/127.0.0.1", "/ip4/127.0.0.1/tcp/1", "/ip4/1.2.3.4/tcp/1/p2p/xyz", "12D3KooW"):
        with pytest.raises(AddressInvalid):
            await host.connect(bad)
    with pytest.raises(PeerUnreachable, match="no address"):
        await host.connect(compute_peer_id(b"\x44" * 32))
    with pytest.raises(PeerUnreachable):
        await host.connect(f"/ip4/127.0.0.1/tcp/1/p2p/{remote.peer_id}")
    impostor = remote.address.replace(remote.peer_id, compute_peer_id(b"\x44" * 32))
    with pytest.raises(PeerUnreachable):
        await host.connect(impostor)
    with pytest.raises(ListenFailed):
        async with open_host(b"\x14" * 32, [f"/ip4/127.0.0.1/tcp/{remote.port}"]):
            pytest.fail("the port is taken")


async def test_an_error_in_the_block_comes_out_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="mine"):
        async with open_host(OUR_SEED, [served.LISTEN]):
            raise RuntimeError("mine")


async def test_a_handler_with_a_nursery_may_fail_in_it(host: P2PHost, caplog: pytest.LogCaptureFixture) -> None:
    async def nested(stream: FramedStream, peer_id: str) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.receive)
            nursery.start_soon(stream.receive)

    async with open_host(b"\x15" * 32, [served.LISTEN]) as server:
        server.serve("/nested/1", nested)
        stream = await host.open_stream(server.addresses[0], "/nested/1")
        stream.reset("to make it fail")
        await stream.wait_ended()
        async with await host.open_stream(server.addresses[0], "/nested/1"):
            pass
        with trio.fail_after(2.0):
            while server._streams_per_service:  # noqa: SLF001
                await trio.lowlevel.checkpoint()
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


async def test_a_handler_is_cancelled_some_time_after_its_stream_has_failed(host: P2PHost) -> None:
    ended = trio.Event()

    async def deaf(stream: FramedStream, peer_id: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.set()

    limits = HostLimits(handler_grace_s=0.2)
    async with open_host(b"\x16" * 32, [served.LISTEN], limits=limits) as server:
        server.serve("/deaf/1", deaf, max_streams_per_peer=1)
        stream = await host.open_stream(server.addresses[0], "/deaf/1")
        stream.reset("gone")
        refused = await host.open_stream(server.addresses[0], "/deaf/1")
        with pytest.raises(StreamReset):  # the place is taken until the handler has ended too
            await refused.receive()
        with trio.fail_after(2.0):
            await ended.wait()
        async with await host.open_stream(server.addresses[0], "/deaf/1") as again:
            with trio.move_on_after(0.1):
                await again.receive()
                pytest.fail("nothing is sent")
