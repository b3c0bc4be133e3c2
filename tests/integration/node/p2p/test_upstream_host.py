"""Defects of the stock libp2p host: every test says what should hold, and strictly fails on py-libp2p 0.8.1.

That ours does hold is tested in test_hostile.py and test_two_processes.py. When a new libp2p makes one of these pass,
its strict xfail turns red: strike the section in docs/upstream.md.
"""

from __future__ import annotations

import socket
from contextlib import AsyncExitStack, ExitStack, suppress
from typing import Any

import pytest
import trio
from libp2p import new_host
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import TProtocol
from libp2p.network.config import ConnectionConfig
from libp2p.network.stream.net_stream import NetStream
from libp2p.peer.id import ID
from libp2p.peer.peerinfo import PeerInfo
from libp2p.security.insecure.transport import PLAINTEXT_PROTOCOL_ID, InsecureTransport
from multiaddr import Multiaddr

from node.p2p.identity import compute_key_pair
from tests.integration.node.p2p import peer as served
from tests.integration.node.p2p.processes import peer_process

pytestmark = pytest.mark.leaves_open
stock_fails = pytest.mark.xfail(strict=True, reason="defect of py-libp2p 0.8.1, see docs/upstream.md")
ECHO = TProtocol(served.ECHO)


def build(seed_byte: int, **options: Any) -> IHost:
    return new_host(key_pair=compute_key_pair(bytes([seed_byte]) * 32), **options)


def info_of(address: str) -> PeerInfo:
    where, peer_id = address.rsplit("/p2p/", 1)
    return PeerInfo(ID.from_base58(peer_id), [Multiaddr(where)])


async def check_echo(host: IHost, peer_id: ID) -> None:
    stream = await host.new_stream(peer_id, [ECHO])
    await stream.write(b"\0\0\0\1x")
    assert await served.read_stock(stream, 5) == b"\0\0\0\1x"
    await stream.reset()


@stock_fails
async def test_a_cancelled_write_leaves_the_connection_whole() -> None:
    """Section 2."""
    host = build(1)
    async with peer_process(3, "stock") as remote, host.run([]):
        await host.connect(info_of(remote.address))
        peer_id = ID.from_base58(remote.peer_id)
        bystander = await host.new_stream(peer_id, [ECHO])
        for n in range(60):
            stream = await host.new_stream(peer_id, [ECHO])
            with trio.move_on_after(n / 20_000):
                await stream.write((200_000).to_bytes(4, "big") + bytes(200_000))
            await stream.reset()
            with trio.fail_after(5.0):
                await bystander.write(b"\0\0\0\1x")
                assert await served.read_stock(bystander, 5) == b"\0\0\0\1x"
        await host.close()


@stock_fails
async def test_a_dial_takes_no_longer_than_it_must() -> None:
    """Section 7."""
    host = build(1)
    async with peer_process(3, "stock") as remote, host.run([]):
        started_s = trio.current_time()
        await host.connect(info_of(remote.address))
        took_s = trio.current_time() - started_s
        await host.close()
    assert took_s < 0.2


@stock_fails
async def test_a_peer_can_be_redialed_after_a_failure() -> None:
    """Section 7."""
    host = build(1)
    async with host.run([]):
        async with peer_process(3, "stock") as first:
            address, peer_id = first.address, ID.from_base58(first.peer_id)
        with suppress(Exception):
            await host.connect(info_of(address))
        host.get_peerstore().clear_addrs(peer_id)
        async with peer_process(3, "stock") as second:
            await host.connect(info_of(second.address))
            assert peer_id in host.get_connected_peers()
        await host.close()


@stock_fails
async def test_an_ended_connection_gives_back_its_place() -> None:
    """Section 8."""
    config = ConnectionConfig(max_connections=3, min_connections=0, low_watermark=0, high_watermark=3)
    server = build(1, connection_config=config)
    server.set_stream_handler(ECHO, served.echo_stock)
    async with server.run([Multiaddr(served.LISTEN)]):
        for n in range(5):
            visitor = build(10 + n, connection_config=ConnectionConfig(min_connections=0, low_watermark=0))
            async with visitor.run([]):
                with trio.fail_after(3.0):
                    await visitor.connect(info_of(str(server.get_addrs()[0])))
                    await check_echo(visitor, server.get_id())
                await visitor.close()


@stock_fails
async def test_idle_sockets_lock_nobody_out() -> None:
    """Section 8."""
    host = build(1)
    async with peer_process(3, "stock") as remote, host.run([]):
        with ExitStack() as stack:
            for _ in range(310):
                stack.enter_context(socket.create_connection(("127.0.0.1", remote.port)))
            with trio.fail_after(3.0):
                await host.connect(info_of(remote.address))
            assert ID.from_base58(remote.peer_id) in host.get_connected_peers()


@stock_fails
async def test_a_taken_port_is_refused() -> None:
    """Section 8."""
    async with AsyncExitStack() as stack:
        first, second = build(1), build(2)
        await stack.enter_async_context(first.run([Multiaddr(served.LISTEN)]))
        address = first.get_transport_addrs()[0]  # type: ignore[attr-defined]
        await stack.enter_async_context(second.run([address]))
        assert address not in second.get_transport_addrs()  # type: ignore[attr-defined]


@stock_fails
async def test_plaintext_is_refused() -> None:
    """Section 9."""
    key_pair = compute_key_pair(b"\1" * 32)
    plaintext = {TProtocol(PLAINTEXT_PROTOCOL_ID): InsecureTransport(key_pair, peerstore=None)}
    impostor = build(1, sec_opt=plaintext)
    async with peer_process(3, "stock") as remote, impostor.run([]):
        with pytest.raises(Exception, match="unable to connect"):
            await impostor.connect(info_of(remote.address))
        await impostor.close()


@stock_fails
async def test_bytes_that_are_not_utf8_cost_only_their_stream() -> None:
    """Section 11."""
    host = build(1)
    async with peer_process(3, "stock") as remote, host.run([]):
        await host.connect(info_of(remote.address))
        peer_id = ID.from_base58(remote.peer_id)
        stream = await host.get_network().new_stream(peer_id)
        assert isinstance(stream, NetStream)
        await stream.write(b"\x13/multistream/1.0.0\n" + b"\x03\xff\xfe\n")
        with suppress(Exception), trio.move_on_after(1.0):
            while True:
                await stream.read(100)
        with trio.fail_after(2.0):
            await check_echo(host, peer_id)


@stock_fails
async def test_a_failing_handler_costs_only_its_stream() -> None:
    """Section 11."""

    async def crash(stream: INetStream) -> None:
        raise RuntimeError("a bug of the handler")

    server, visitor = build(1), build(2)
    server.set_stream_handler(TProtocol(served.CRASH), crash)
    server.set_stream_handler(ECHO, served.echo_stock)
    async with server.run([Multiaddr(served.LISTEN)]), visitor.run([]):
        await visitor.connect(info_of(str(server.get_addrs()[0])))
        await visitor.new_stream(server.get_id(), [TProtocol(served.CRASH)])
        await trio.sleep(0.2)
        with trio.fail_after(2.0):
            await check_echo(visitor, server.get_id())


@stock_fails
async def test_a_host_dials_only_when_asked() -> None:
    """Section 10."""
    config = ConnectionConfig(min_connections=0, low_watermark=0)
    first, second = build(1, connection_config=config), build(2, connection_config=config)
    async with first.run([Multiaddr(served.LISTEN)]):
        second.get_peerstore().add_addrs(first.get_id(), first.get_transport_addrs(), 600)  # type: ignore[attr-defined]
        async with second.run([]):
            await trio.sleep(1.0)  # its connector starts by itself
            assert not second.get_network().connections
            await second.close()
        await first.close()


@stock_fails
async def test_leaving_a_host_closes_its_connections() -> None:
    """Section 14."""
    server, visitor = build(1), build(2)
    async with server.run([Multiaddr(served.LISTEN)]):
        async with visitor.run([]):
            await visitor.connect(info_of(str(server.get_addrs()[0])))
        await trio.sleep(0.5)
        left = len(server.get_network().connections)
        await server.close()
        await visitor.close()
        assert not left
