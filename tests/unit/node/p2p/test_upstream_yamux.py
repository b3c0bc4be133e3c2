"""Defects of libp2p's own Yamux: each test fails on the stock class (strictly) and passes on ours.

When a new libp2p makes a stock case pass, its strict xfail turns red: strike the section in docs/upstream.md.
"""

from __future__ import annotations

from typing import Any

import pytest
import trio
from libp2p.stream_muxer.yamux.yamux import Yamux

from node.p2p.yamux import YamuxConnection
from node.p2p.yamux_wire import HEADER, NOISE_RECORD_BYTES_MAX, WINDOW_BYTES_INITIAL, Flag, FrameType
from tests.unit.node.p2p.secure import MemorySecureConn, make_secure_pair, open_pair

stock_fails = pytest.mark.xfail(strict=True, reason="defect of py-libp2p 0.8.1, see docs/upstream.md")
both = pytest.mark.parametrize("muxer", [pytest.param(Yamux, marks=stock_fails, id="stock"), YamuxConnection])


async def open_stream_pair(nursery: trio.Nursery, muxer: Any) -> tuple[Any, Any, MemorySecureConn, MemorySecureConn]:
    left, right = make_secure_pair()
    one, other = await open_pair(nursery, muxer, left, right)
    opener = await one.open_stream()
    acceptor = await other.accept_stream()
    await trio.testing.wait_all_tasks_blocked()
    return opener, acceptor, left, right


async def cancel_after(steps: int, scope: trio.CancelScope) -> None:
    for _ in range(steps):
        await trio.lowlevel.checkpoint()
    scope.cancel()


@both
async def test_a_read_cancelled_at_any_step_keeps_its_bytes(muxer: Any) -> None:
    """Section 1."""
    async with trio.open_nursery() as nursery:
        opener, acceptor, _, _ = await open_stream_pair(nursery, muxer)
        for steps in range(20):
            await opener.write(bytes([steps]))
            await trio.testing.wait_all_tasks_blocked()
            got = b""
            with trio.CancelScope() as scope:
                nursery.start_soon(cancel_after, steps, scope)
                got = await acceptor.read(10)
            if not got:
                with trio.fail_after(1.0):
                    got = await acceptor.read(10)
            assert got == bytes([steps])
        nursery.cancel_scope.cancel()


@both
async def test_a_full_data_frame_fits_one_noise_record(muxer: Any) -> None:
    """Section 3."""
    async with trio.open_nursery() as nursery:
        opener, _, left, _ = await open_stream_pair(nursery, muxer)
        await opener.write(bytes(WINDOW_BYTES_INITIAL))
        sizes = [len(record) for record in left.written]
        assert max(sizes) <= NOISE_RECORD_BYTES_MAX
        nursery.cancel_scope.cancel()


@both
async def test_small_reads_do_not_each_send_a_window_update(muxer: Any) -> None:
    """Section 4."""
    async with trio.open_nursery() as nursery:
        opener, acceptor, _, right = await open_stream_pair(nursery, muxer)
        before = len(right.written)
        for _ in range(50):
            await opener.write(bytes(100))
            await acceptor.read(100)
        await trio.testing.wait_all_tasks_blocked()
        assert len(right.written) - before <= 1
        nursery.cancel_scope.cancel()


@both
async def test_returned_credit_wakes_the_sender_at_once(muxer: Any, autojump_clock: trio.testing.MockClock) -> None:
    """Section 4."""
    async with trio.open_nursery() as nursery:
        opener, acceptor, _, _ = await open_stream_pair(nursery, muxer)
        written = trio.Event()

        async def write() -> None:
            await opener.write(bytes(WINDOW_BYTES_INITIAL + 1))
            written.set()

        nursery.start_soon(write)
        await trio.testing.wait_all_tasks_blocked()
        started_s = trio.current_time()
        left = WINDOW_BYTES_INITIAL
        while left:
            left -= len(await acceptor.read(left))
        await written.wait()
        assert trio.current_time() == started_s
        nursery.cancel_scope.cancel()


@both
async def test_a_sender_without_credit_waits_as_long_as_it_takes(
    muxer: Any, autojump_clock: trio.testing.MockClock
) -> None:
    """Section 5."""
    async with trio.open_nursery() as nursery:
        opener, acceptor, _, _ = await open_stream_pair(nursery, muxer)
        nursery.start_soon(opener.write, bytes(WINDOW_BYTES_INITIAL + 1))
        await trio.sleep(6.0)
        left = WINDOW_BYTES_INITIAL + 1
        with trio.fail_after(5.0):
            while left:
                left -= len(await acceptor.read(left))
        nursery.cancel_scope.cancel()


@both
async def test_a_peer_that_overruns_its_window_is_dropped(muxer: Any) -> None:
    """Section 6."""
    async with trio.open_nursery() as nursery:
        _, _, left, right = await open_stream_pair(nursery, muxer)
        for _ in range(40):
            if not left.is_closed:
                await left.write(HEADER.pack(0, FrameType.DATA, Flag.NONE, 1, 60_000) + bytes(60_000))
            await trio.testing.wait_all_tasks_blocked()
        assert right.is_closed
        nursery.cancel_scope.cancel()
