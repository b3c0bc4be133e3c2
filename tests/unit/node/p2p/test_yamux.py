"""Yamux: streams keep their bytes and their credit; a peer that breaks the rules loses the connection, not us."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from libp2p.stream_muxer.exceptions import MuxedConnUnavailable, MuxedStreamClosed, MuxedStreamEOF, MuxedStreamReset

from node.p2p.yamux import YamuxConnection
from node.p2p.yamux_stream import YamuxStream
from node.p2p.yamux_wire import HEADER, WINDOW_BYTES_INITIAL, Flag, FrameType, YamuxLimits
from tests.unit.node.p2p.secure import PEER, MemorySecureConn, make_secure_pair, open_pair

LIMITS = YamuxLimits()


@asynccontextmanager
async def connected(room: float = float("inf")) -> AsyncIterator[tuple[YamuxConnection, YamuxConnection]]:
    async with trio.open_nursery() as nursery:
        yield await open_pair(nursery, YamuxConnection, *make_secure_pair(room))
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def attacked(limits: YamuxLimits = LIMITS) -> AsyncIterator[tuple[YamuxConnection, MemorySecureConn]]:
    """A connection whose peer is the test itself, speaking raw frames."""
    ours, theirs = make_secure_pair()
    async with trio.open_nursery() as nursery:
        connection = YamuxConnection(ours, PEER, limits=limits)
        nursery.start_soon(connection.start)
        await connection.event_started.wait()
        yield connection, theirs
        nursery.cancel_scope.cancel()


async def open_both(one: YamuxConnection, other: YamuxConnection) -> tuple[YamuxStream, YamuxStream]:
    return await one.open_stream(), await other.accept_stream()


async def read_exactly(stream: YamuxStream, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += await stream.read(size - len(data))
    return data


async def accept_forever(connection: YamuxConnection) -> None:
    while True:
        await connection.accept_stream()


def frame(frame_type: int, flags: int, stream_id: int, length: int, body: bytes = b"") -> bytes:
    return HEADER.pack(0, frame_type, flags, stream_id, length) + body


def parse(data: bytes) -> list[tuple[int, int, int, int]]:
    frames = []
    start = 0
    while start < len(data):
        _, frame_type, flags, stream_id, length = HEADER.unpack_from(data, start)
        frames.append((frame_type, flags, stream_id, length))
        start += HEADER.size + (length if frame_type == FrameType.DATA else 0)
    return frames


async def test_bytes_cross_in_both_directions_on_many_streams() -> None:
    async with connected() as (one, other), trio.open_nursery() as nursery:
        for n in range(20):
            opener, acceptor = await (open_both(one, other) if n % 2 else open_both(other, one))
            body = bytes([n]) * (n * 20_000 + 1)
            nursery.start_soon(opener.write, body)
            nursery.start_soon(acceptor.write, body[::-1])
            assert await read_exactly(acceptor, len(body)) == body
            assert await read_exactly(opener, len(body)) == body


async def test_a_large_body_grows_the_window_and_needs_few_updates() -> None:
    async with connected() as (one, other), trio.open_nursery() as nursery:
        opener, acceptor = await open_both(one, other)
        body = bytes(range(256)) * (64 * 1024)  # 16 MiB
        nursery.start_soon(opener.write, body)
        assert await read_exactly(acceptor, len(body)) == body
        secured = other.secured_conn
        assert isinstance(secured, MemorySecureConn)
        updates = [f for f in parse(b"".join(secured.written)) if f[:2] == (FrameType.WINDOW_UPDATE, Flag.NONE)]
        assert len(updates) < 20
        assert acceptor._window == LIMITS.window_bytes_max  # noqa: SLF001


async def test_a_stream_of_another_is_not_held_up_by_an_unread_one() -> None:
    async with connected() as (one, other), trio.open_nursery() as nursery:
        stuck, _unread = await open_both(one, other)
        nursery.start_soon(stuck.write, bytes(2 * WINDOW_BYTES_INITIAL))
        opener, acceptor = await open_both(one, other)
        await opener.write(b"through")
        assert await acceptor.read() == b"through"
        nursery.cancel_scope.cancel()


async def test_an_end_is_told_from_a_reset_and_data_comes_first() -> None:
    async with connected() as (one, other):
        opener, acceptor = await open_both(one, other)
        await opener.write(b"last words")
        await opener.close()
        assert await acceptor.read() == b"last words"
        with pytest.raises(MuxedStreamEOF):
            await acceptor.read()
        await acceptor.write(b"answer")
        assert await opener.read() == b"answer"
        with pytest.raises(MuxedStreamClosed):
            await opener.write(b"x")
        opener, acceptor = await open_both(one, other)
        await opener.write(b"last words")
        await opener.reset()
        await trio.testing.wait_all_tasks_blocked()
        assert await acceptor.read() == b"last words"
        with pytest.raises(MuxedStreamReset):
            await acceptor.read()
        with pytest.raises(MuxedStreamReset):
            await acceptor.write(b"x")


async def test_closed_streams_leave_nothing_behind() -> None:
    async with connected() as (one, other):
        for n in range(600):
            opener, acceptor = await open_both(one, other)
            await opener.write(b"unread")
            if n % 2:
                await opener.close()
                await acceptor.close()
            else:
                await acceptor.reset()
        await trio.testing.wait_all_tasks_blocked()
        assert not one._streams  # noqa: SLF001
        assert not other._streams  # noqa: SLF001
        assert other._inbound_count == 0  # noqa: SLF001


async def test_streams_over_the_limit_are_reset_and_the_rest_go_on() -> None:
    async with attacked(YamuxLimits(inbound_streams_max=3)) as (connection, theirs):
        for n in range(5):
            await theirs.write(frame(FrameType.WINDOW_UPDATE, Flag.SYN, 2 * n + 2, 0))
        await trio.testing.wait_all_tasks_blocked()
        answers = parse(b"".join(theirs.records))
        assert [flags for _, flags, _, _ in answers] == [Flag.ACK] * 3 + [Flag.RST] * 2
        assert not connection.is_closed


async def test_the_end_of_the_connection_resets_every_stream() -> None:
    async with connected() as (one, other):
        opener, acceptor = await open_both(one, other)
        async with trio.open_nursery() as nursery:

            async def expect_reset(stream: YamuxStream) -> None:
                with pytest.raises(MuxedStreamReset):
                    await stream.read()

            nursery.start_soon(expect_reset, opener)
            nursery.start_soon(expect_reset, acceptor)
            await trio.testing.wait_all_tasks_blocked()
            await one.close()
        for end in (one, other):
            assert end.is_closed
            with pytest.raises(MuxedConnUnavailable):
                await end.open_stream()
            with pytest.raises(MuxedConnUnavailable):
                await end.accept_stream()


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(b"\x01" + bytes(11), id="version"),
        pytest.param(frame(4, 0, 0, 0), id="frame type"),
        pytest.param(frame(FrameType.WINDOW_UPDATE, Flag.SYN, 3, 0), id="our own stream id"),
        pytest.param(frame(FrameType.WINDOW_UPDATE, Flag.SYN, 0, 0), id="stream id 0"),
        pytest.param(frame(FrameType.WINDOW_UPDATE, Flag.SYN, 2, 0) * 2, id="stream opened twice"),
        pytest.param(frame(FrameType.WINDOW_UPDATE, Flag.SYN, 2, (1 << 32) - 1), id="absurd window"),
        pytest.param(frame(FrameType.DATA, Flag.SYN, 2, (1 << 32) - 1), id="huge frame"),
        pytest.param(frame(FrameType.DATA, Flag.SYN, 2, 300_000, bytes(300_000)), id="window overrun"),
        pytest.param(frame(FrameType.PING, Flag.SYN, 0, 7) * 3000, id="ping flood"),
        pytest.param(frame(FrameType.GO_AWAY, 0, 0, 0), id="goodbye"),
    ],
)
async def test_a_breach_closes_the_connection_and_raises_nothing(attack: bytes) -> None:
    async with attacked() as (connection, theirs):
        await theirs.write(attack)
        with trio.fail_after(1.0), pytest.raises(MuxedConnUnavailable):
            await accept_forever(connection)
        await trio.testing.wait_all_tasks_blocked()
        assert connection.is_closed
        assert theirs.is_closed


async def test_an_overrun_in_many_frames_is_noticed_before_it_is_stored() -> None:
    async with attacked() as (connection, theirs):
        await theirs.write(frame(FrameType.WINDOW_UPDATE, Flag.SYN, 2, 0))
        stream = await connection.accept_stream()
        for _ in range(300):
            if not theirs.is_closed:
                await theirs.write(frame(FrameType.DATA, 0, 2, 1000, bytes(1000)))
            await trio.testing.wait_all_tasks_blocked()
        assert connection.is_closed
        assert sum(map(len, stream._chunks)) <= WINDOW_BYTES_INITIAL  # noqa: SLF001


async def test_frames_cut_anywhere_are_put_together() -> None:
    async with attacked() as (connection, theirs):
        data = (
            frame(FrameType.DATA, Flag.SYN, 2, 5, b"hello")
            + frame(FrameType.PING, Flag.SYN, 0, 9)
            + frame(FrameType.DATA, 0, 2, 5, b"world")
            + frame(FrameType.DATA, Flag.FIN, 2, 1, b"!")
        )
        for n in range(len(data)):
            await theirs.write(data[n : n + 1])
        stream = await connection.accept_stream()
        assert await read_exactly(stream, 11) == b"helloworld!"
        with pytest.raises(MuxedStreamEOF):
            await stream.read()
        assert (FrameType.PING, Flag.ACK, 0, 9) in parse(b"".join(theirs.records))


async def test_data_for_a_forgotten_stream_is_skipped() -> None:
    async with attacked() as (connection, theirs):
        await theirs.write(frame(FrameType.WINDOW_UPDATE, Flag.SYN, 2, 0))
        await (await connection.accept_stream()).reset()
        await theirs.write(frame(FrameType.DATA, 0, 2, 3, b"abc"))
        await theirs.write(frame(FrameType.DATA, Flag.SYN, 4, 2, b"ok"))
        assert await (await connection.accept_stream()).read() == b"ok"


async def test_a_silent_peer_is_pinged_then_dropped(autojump_clock: trio.testing.MockClock) -> None:
    async with attacked() as (connection, theirs):
        started_s = trio.current_time()
        with pytest.raises(MuxedConnUnavailable, match="silent"):
            await connection.accept_stream()
        silent_s = trio.current_time() - started_s
        assert LIMITS.silence_max_s < silent_s <= LIMITS.silence_max_s + LIMITS.ping_after_s
        pings = [f for f in parse(b"".join(theirs.records)) if f[:2] == (FrameType.PING, Flag.SYN)]
        assert len(pings) == 3


async def test_an_idle_connection_of_two_live_peers_stays(autojump_clock: trio.testing.MockClock) -> None:
    async with connected() as (one, other):
        await trio.sleep(1000.0)
        opener, acceptor = await open_both(one, other)
        await opener.write(b"awake")
        assert await acceptor.read() == b"awake"


@settings(max_examples=200, deadline=None)
@given(
    frames=st.lists(
        st.tuples(
            st.sampled_from([0, 1, 2, 3, 0, 1, 9]),
            st.integers(0, 15),
            st.integers(0, 5),
            st.one_of(st.integers(0, 64), st.integers(0, (1 << 32) - 1)),
            st.binary(max_size=64),
        ),
        max_size=12,
    )
)
def test_no_bytes_make_it_raise(frames: list[tuple[int, int, int, int, bytes]]) -> None:
    async def play() -> None:
        async with attacked() as (connection, theirs):
            for frame_type, flags, stream_id, length, body in frames:
                if not theirs.is_closed:
                    await theirs.write(frame(frame_type, flags, stream_id, length, body))
            await trio.testing.wait_all_tasks_blocked()
            await connection.close()

    trio.run(play)
