"""TCP streams over real sockets: exact reads, writes that cancellation cannot tear, prompt ends."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from libp2p.io.exceptions import ConnectionClosedError

from node.p2p.tcp import OUTBOX_BYTES_MAX, TcpStream


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[TcpStream, TcpStream]]:
    async with trio.open_nursery() as nursery:
        with socket.create_server(("127.0.0.1", 0)) as server:
            left = socket.create_connection(server.getsockname())
            right, _ = server.accept()
        one, other = TcpStream(left, nursery), TcpStream(right, nursery)
        try:
            yield one, other
        finally:
            await one.close()
            await other.close()
            nursery.cancel_scope.cancel()


async def write_forever(stream: TcpStream) -> None:
    while True:
        await stream.write(bytes(100_000))


async def test_a_read_returns_exactly_what_was_asked_for() -> None:
    async with connected() as (one, other):
        await one.write(b"abcdefgh")
        assert await other.read(3) == b"abc"
        assert await other.read(2) == b"de"
        assert await other.read() == b"fgh"
        assert await other.read(0) == b""


async def test_a_read_waits_across_small_segments() -> None:
    async with connected() as (one, other), trio.open_nursery() as nursery:

        async def drip() -> None:
            for n in range(300):  # libp2p's read_exactly gives up after 101 partial reads
                await one.write(bytes([n % 256]))
                await trio.testing.wait_all_tasks_blocked()

        nursery.start_soon(drip)
        assert await other.read(300) == bytes(n % 256 for n in range(300))


async def test_a_cancelled_read_loses_nothing() -> None:
    async with connected() as (one, other):
        await one.write(b"abc")
        with trio.move_on_after(0.01):
            await other.read(6)
            pytest.fail("only three bytes were sent")
        await one.write(b"def")
        assert await other.read(6) == b"abcdef"


async def test_a_cancelled_write_still_sends_all_of_it() -> None:
    async with connected() as (one, other), trio.open_nursery() as nursery:
        sent = b""
        for n in range(40):
            block = bytes([n]) * 300_000
            with trio.move_on_after(0.001):
                await one.write(block)
            sent += block
            if len(one._outbox) > 4 * OUTBOX_BYTES_MAX:  # noqa: SLF001
                break

        async def read_all() -> None:
            assert await other.read(len(sent)) == sent

        nursery.start_soon(read_all)


async def test_a_writer_waits_while_the_outbox_is_full() -> None:
    async with connected() as (one, other):
        total = 0
        with trio.move_on_after(0.2) as scope:
            while True:
                await one.write(bytes(100_000))
                total += 100_000
        assert scope.cancelled_caught
        assert len(one._outbox) <= OUTBOX_BYTES_MAX + 100_000  # noqa: SLF001
        assert await other.read(total + 100_000) == bytes(total + 100_000)


async def test_every_waiting_writer_goes_on_when_there_is_room() -> None:
    async with connected() as (one, other), trio.open_nursery() as nursery:
        block = bytes(8 * 1024 * 1024)
        for _ in range(3):
            nursery.start_soon(one.write, block)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert await other.read(3 * len(block)) == bytes(3 * len(block))


async def test_the_end_comes_after_the_data() -> None:
    async with connected() as (one, other):
        await one.write(b"last")
        await one.close()
        assert await other.read(10) == b"last"
        assert await other.read(10) == b""
        with pytest.raises(ConnectionClosedError):
            await one.write(b"more")


async def test_closing_wakes_readers_and_writers() -> None:
    async with connected() as (one, _other), trio.open_nursery() as nursery:

        async def read() -> None:
            assert await one.read(1) == b""

        async def write() -> None:
            with pytest.raises(ConnectionClosedError):
                await write_forever(one)

        nursery.start_soon(read)
        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked(0.05)
        await one.close()


async def test_callbacks_are_called_once() -> None:
    async with connected() as (one, _other):
        calls: list[str] = []
        one.watch(established=lambda: calls.append("established"), closed=lambda: calls.append("closed"))
        one.mark_established()
        await one.close()
        await one.close()
        assert calls == ["established", "closed"]
        assert one.get_remote_address() is not None
