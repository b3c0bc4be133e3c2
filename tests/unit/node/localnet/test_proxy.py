"""The proxy over real sockets: what groups keep apart waits, nothing is lost, delay is delay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio

from node.localnet.errors import LocalnetError
from node.localnet.proxy import HOST, ProxyLink, Switch, parse_order, run_proxy, send_order, serve_link

APART = (("alice",), ("bob",))


@dataclass
class Echo:
    """A server that sends back what it gets, behind a proxied link."""

    link: ProxyLink
    connections: int = 0


async def find_port() -> int:
    (listener,) = await trio.open_tcp_listeners(0, host=HOST)
    port: int = listener.socket.getsockname()[1]
    await listener.aclose()
    return port


@asynccontextmanager
async def open_echo(switch: Switch, delay_ms: int = 0) -> AsyncIterator[Echo]:
    async with trio.open_nursery() as nursery:

        async def answer(stream: trio.SocketStream) -> None:
            echo.connections += 1
            async for data in stream:
                await stream.send_all(data)

        (listener,) = await nursery.start(partial(trio.serve_tcp, host=HOST), answer, 0)
        echo = Echo(ProxyLink("alice", "bob", await find_port(), listener.socket.getsockname()[1]))
        await nursery.start(serve_link, echo.link, switch, delay_ms)
        yield echo
        nursery.cancel_scope.cancel()


async def receive_exactly(stream: trio.SocketStream, count: int) -> bytes:
    found = b""
    with trio.fail_after(10):
        while len(found) < count:
            found += await stream.receive_some(count - len(found))
    return found


async def is_silent(stream: trio.SocketStream) -> bool:
    with trio.move_on_after(0.05) as waiting:
        await stream.receive_some(1)
    return waiting.cancelled_caught


async def test_bytes_go_both_ways_and_an_end_is_passed_on() -> None:
    async with open_echo(Switch()) as echo, await trio.open_tcp_stream(HOST, echo.link.port) as stream:
        data = bytes(range(256)) * 4_000
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, data)
            assert await receive_exactly(stream, len(data)) == data
        await stream.send_eof()
        assert await stream.receive_some(1) == b""


async def test_kept_apart_bytes_wait_and_arrive_after_healing() -> None:
    switch = Switch()
    async with open_echo(switch) as echo, await trio.open_tcp_stream(HOST, echo.link.port) as stream:
        await stream.send_all(b"before")
        assert await receive_exactly(stream, 6) == b"before"
        switch.set_groups(APART)
        await stream.send_all(b"during")
        assert await is_silent(stream)
        switch.set_groups((("alice", "bob"),))
        assert await receive_exactly(stream, 6) == b"during"


async def test_kept_apart_a_new_connection_does_not_reach_the_other_side_before_healing() -> None:
    switch = Switch(APART)
    async with open_echo(switch) as echo, await trio.open_tcp_stream(HOST, echo.link.port) as stream:
        await stream.send_all(b"hello")
        assert await is_silent(stream)
        assert echo.connections == 0
        switch.set_groups(())
        assert await receive_exactly(stream, 5) == b"hello"


async def test_delay_holds_for_each_way_and_not_for_the_sum_of_messages() -> None:
    async with open_echo(Switch(), delay_ms=60) as echo, await trio.open_tcp_stream(HOST, echo.link.port) as stream:
        started_s = trio.current_time()
        for _ in range(5):
            await stream.send_all(b"x" * 1_000)
        await receive_exactly(stream, 5_000)
        took_s = trio.current_time() - started_s
        assert 0.12 <= took_s < 0.6, "there and back once each, all five under way at the same time"


async def test_a_dead_end_closes_the_connection() -> None:
    link = ProxyLink("alice", "bob", await find_port(), await find_port())
    async with trio.open_nursery() as nursery:
        await nursery.start(serve_link, link, Switch(), 0)
        async with await trio.open_tcp_stream(HOST, link.port) as stream:
            with trio.fail_after(5):
                assert await stream.receive_some(1) == b""
        nursery.cancel_scope.cancel()


async def test_orders_come_over_the_socket_and_what_is_none_is_refused(tmp_path: Path) -> None:
    socket = tmp_path / "proxy.sock"
    with pytest.raises(LocalnetError, match="does not answer"):
        await send_order(socket, APART)
    async with trio.open_nursery() as nursery:
        await nursery.start(run_proxy, [], socket, (), 0)
        assert socket.stat().st_mode & 0o077 == 0
        await send_order(socket, APART)
        async with await trio.open_unix_socket(str(socket)) as stream:
            await stream.send_all(b'{"groups": 7}\n')
            assert b'"ok": false' in await stream.receive_some(1_000)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"groups": ["alice"]}', b'{"groups": [[1]]}', b"[" * 60_000])
def test_no_order(line: bytes) -> None:
    with pytest.raises(LocalnetError):
        parse_order(line)
