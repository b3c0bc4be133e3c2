"""Framing: what arrives is what was sent, whatever the cuts, cancellations and stalls; garbage has typed ends."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.p2p.errors import (
    FrameTooLarge,
    NetworkError,
    PeerUnreachable,
    ReceiverStalled,
    StreamClosed,
    StreamReset,
)
from node.p2p.frame_decoder import FrameDecoder
from node.p2p.framing import HEARTBEAT, FramedStream, StreamLimits
from tests.unit.node.p2p.pipes import MemoryByteStream, make_pair

SMALL = StreamLimits(frame_bytes_max=1000, queue_bytes_max=4000)


def encode(*payloads: bytes) -> bytes:
    return b"".join(struct.pack(">I", len(payload)) + payload for payload in payloads)


@asynccontextmanager
async def running(raw: MemoryByteStream, limits: StreamLimits = SMALL) -> AsyncIterator[FramedStream]:
    stream = FramedStream(raw, limits=limits, peer_id="peer", protocol="/test/1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.run)
        yield stream
        nursery.cancel_scope.cancel()


@pytest.fixture(params=[False, True], ids=["pulled", "pushed"], autouse=True)
def _pushing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryByteStream, "is_pushing", request.param)


async def send_forever(stream: FramedStream) -> None:
    while True:
        await stream.send(bytes(1000))


async def receive_forever(stream: FramedStream) -> None:
    while True:
        await stream.receive()


@given(
    payloads=st.lists(st.binary(max_size=40), max_size=12),
    cuts=st.lists(st.integers(min_value=1, max_value=50), min_size=1),
)
def test_any_cutting_of_the_bytes_gives_the_same_frames(payloads: list[bytes], cuts: list[int]) -> None:
    data = encode(*payloads)
    decoder = FrameDecoder(frame_bytes_max=40)
    frames: list[bytes] = []
    start = index = 0
    while start < len(data):
        size = cuts[index % len(cuts)]
        frames += list(decoder.feed(data[start : start + size]))
        start, index = start + size, index + 1
    assert frames == [payload for payload in payloads if payload]
    assert decoder.is_between_frames


@given(data=st.binary(max_size=200))
def test_garbage_gives_frames_within_the_limit_or_one_typed_error(data: bytes) -> None:
    decoder = FrameDecoder(frame_bytes_max=16)
    try:
        frames = list(decoder.feed(data))
    except FrameTooLarge:
        return
    assert all(0 < len(frame) <= 16 for frame in frames)


def test_an_oversize_header_is_refused_before_any_payload() -> None:
    decoder = FrameDecoder(frame_bytes_max=16)
    with pytest.raises(FrameTooLarge, match="17 bytes"):
        list(decoder.feed(struct.pack(">I", 17)))


def test_a_cut_frame_is_not_between_frames() -> None:
    decoder = FrameDecoder(frame_bytes_max=16)
    assert list(decoder.feed(encode(b"abc")[:-1])) == []
    assert not decoder.is_between_frames


async def test_frames_arrive_whole_and_in_order() -> None:
    left, right = make_pair(capacity=7)
    async with running(left) as sender, running(right) as receiver, trio.open_nursery() as nursery:
        sent = [bytes([n]) * (n * 37 % 900 + 1) for n in range(40)]

        async def send_all() -> None:
            for payload in sent:
                await sender.send(payload)

        nursery.start_soon(send_all)
        assert [await receiver.receive() for _ in sent] == sent


async def test_frames_sent_together_arrive_one_by_one_and_in_one_write() -> None:
    left, right = make_pair()
    async with running(left) as ours, running(right) as theirs:
        payloads = [bytes([at]) * (at + 1) for at in range(20)]
        await ours.send_together(payloads)
        assert [await theirs.receive() for _ in payloads] == payloads
        with pytest.raises(ValueError, match="heartbeat"):
            await ours.send_together([b"a", b""])
        with pytest.raises(FrameTooLarge):
            await ours.send_together([b"a", bytes(1001)])
        await ours.send(b"still open")
        assert await theirs.receive() == b"still open"


async def test_concurrent_senders_do_not_mix_their_frames() -> None:
    left, right = make_pair(capacity=5)
    async with running(left) as sender, running(right) as receiver, trio.open_nursery() as nursery:
        for n in range(8):
            nursery.start_soon(sender.send, bytes([n]) * 100)
        got = sorted([await receiver.receive() for _ in range(8)])
        assert got == [bytes([n]) * 100 for n in range(8)]


async def test_a_cancelled_receive_loses_nothing(autojump_clock: trio.testing.MockClock) -> None:
    left, right = make_pair()
    async with running(left) as sender, running(right) as receiver:
        for n in range(1, 30):
            with trio.move_on_after(0.001):
                await receiver.receive()
                pytest.fail("nothing was sent yet")
            await sender.send(bytes([n]))
            with trio.CancelScope() as scope:
                scope.cancel()
                await receiver.receive()
                pytest.fail("a cancelled receive must not return")
            assert await receiver.receive() == bytes([n])


async def test_a_cancelled_send_resets_the_stream(autojump_clock: trio.testing.MockClock) -> None:
    left, right = make_pair(capacity=50)
    async with running(left) as sender, running(right) as receiver:
        right.is_deaf = True
        with trio.move_on_after(0.1) as scope:
            await sender.send(b"x" * 500)
        assert scope.cancelled_caught
        with pytest.raises(StreamReset, match="cancelled"):
            await sender.send(b"more")
        right.is_deaf = False
        right.notify()
        with pytest.raises(StreamReset):
            await receiver.receive()


async def test_a_send_cancelled_while_waiting_its_turn_harms_nobody(autojump_clock: trio.testing.MockClock) -> None:
    left, right = make_pair(capacity=50)
    async with running(left) as sender, running(right) as receiver, trio.open_nursery() as nursery:
        right.is_deaf = True
        nursery.start_soon(sender.send, b"a" * 500)
        await trio.testing.wait_all_tasks_blocked()
        with trio.move_on_after(0.1):
            await sender.send(b"b" * 500)
        right.is_deaf = False
        right.notify()
        assert await receiver.receive() == b"a" * 500
        await sender.send(b"c")
        assert await receiver.receive() == b"c"


async def test_an_orderly_end_delivers_everything_first() -> None:
    left, right = make_pair()
    async with running(left) as sender, running(right) as receiver:
        await sender.send(b"one")
        await sender.send(b"two")
        await sender.close()
        await sender.close()
        assert [await receiver.receive(), await receiver.receive()] == [b"one", b"two"]
        for _ in range(2):
            with pytest.raises(StreamClosed, match="peer"):
                await receiver.receive()
        await receiver.close()
        await sender.wait_ended()
        await receiver.wait_ended()
        with pytest.raises(StreamClosed, match="this side"):
            await sender.send(b"three")


async def test_the_other_direction_stays_open_after_the_peer_has_finished() -> None:
    left, right = make_pair()
    async with running(left) as sender:
        await right.finish()
        with pytest.raises(StreamClosed):
            await sender.receive()
        await sender.send(b"answer")
        await trio.testing.wait_all_tasks_blocked()
        assert bytes(right.inbox).endswith(encode(b"answer"))


async def test_a_close_gives_up_on_a_peer_that_never_ends(autojump_clock: trio.testing.MockClock) -> None:
    left, right = make_pair()
    async with running(left) as sender:
        await sender.close()
        started_s = trio.current_time()
        await sender.wait_ended()
        assert trio.current_time() - started_s == pytest.approx(SMALL.linger_s)
        assert right.is_reset


async def test_an_end_inside_a_frame_is_a_reset() -> None:
    left, right = make_pair()
    async with running(right) as receiver:
        await left.write(encode(b"whole") + encode(b"cut")[:-1])
        await left.finish()
        assert await receiver.receive() == b"whole"
        with pytest.raises(StreamReset, match="inside a frame"):
            await receiver.receive()


async def test_a_reset_is_told_from_an_end() -> None:
    left, right = make_pair()
    async with running(right) as receiver:
        await left.write(encode(b"whole"))
        assert await receiver.receive() == b"whole"
        await left.reset()
        with pytest.raises(StreamReset):
            await receiver.receive()
        with pytest.raises(StreamReset):
            await receiver.send(b"x")


async def test_an_oversize_frame_from_the_peer_resets_the_stream() -> None:
    left, right = make_pair()
    async with running(right) as receiver:
        await left.write(encode(b"fine") + struct.pack(">I", 1001))
        assert await receiver.receive() == b"fine"
        with pytest.raises(FrameTooLarge):
            await receiver.receive()
        await receiver.wait_ended()
        assert left.is_reset


async def test_unsendable_payloads_are_refused_and_leave_the_stream_open() -> None:
    left, right = make_pair()
    async with running(left) as sender, running(right) as receiver:
        with pytest.raises(FrameTooLarge):
            await sender.send(bytes(1001))
        with pytest.raises(ValueError, match="heartbeat"):
            await sender.send(b"")
        await sender.send(bytes(1000))
        assert await receiver.receive() == bytes(1000)


async def test_a_slow_consumer_holds_the_sender_back_and_memory_down() -> None:
    left, right = make_pair(capacity=2000)
    async with running(left) as sender, running(right) as receiver, trio.open_nursery() as nursery:
        count = 0

        async def flood() -> None:
            nonlocal count
            for _ in range(100):
                await sender.send(bytes(1000))
                count += 1

        nursery.start_soon(flood)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert receiver._queued_bytes <= SMALL.queue_bytes_max + 2 * SMALL.frame_bytes_max  # noqa: SLF001
        assert count < 12
        for _ in range(100):
            assert await receiver.receive() == bytes(1000)


async def test_a_consumer_that_never_reads_loses_the_stream(autojump_clock: trio.testing.MockClock) -> None:
    left, right = make_pair(capacity=2000)
    async with running(left) as sender, running(right) as receiver:
        started_s = trio.current_time()
        with pytest.raises(StreamReset):
            await send_forever(sender)
        assert trio.current_time() - started_s == pytest.approx(SMALL.consumer_stall_s)
        with pytest.raises(ReceiverStalled):
            await receive_forever(receiver)


async def test_a_reset_is_noticed_while_the_consumer_is_behind() -> None:
    left, right = make_pair(capacity=10_000)
    async with running(right) as receiver:
        await left.write(encode(*[bytes(1000)] * 8))
        await trio.testing.wait_all_tasks_blocked(0.01)
        await left.reset()
        with trio.fail_after(1.0):
            await receiver.wait_ended()


async def test_heartbeats_keep_an_idle_stream_and_are_never_seen(autojump_clock: trio.testing.MockClock) -> None:
    left, right = make_pair()
    async with running(left) as one, running(right) as other:
        with trio.move_on_after(1000.0) as scope:
            await one.receive()
        assert scope.cancelled_caught
        await one.send(b"still here")
        assert await other.receive() == b"still here"


async def test_a_silent_peer_is_noticed_at_the_limit(autojump_clock: trio.testing.MockClock) -> None:
    left, right = make_pair()
    async with running(right) as receiver:
        await left.write(encode(b"hello"))
        assert await receiver.receive() == b"hello"
        started_s = trio.current_time()
        with pytest.raises(PeerUnreachable, match="silent"):
            await receiver.receive()
        assert trio.current_time() - started_s == pytest.approx(SMALL.dead_peer_s)
        await receiver.wait_ended()
        assert left.is_reset


async def test_a_silent_peer_is_noticed_while_a_send_is_stuck(autojump_clock: trio.testing.MockClock) -> None:
    left, _right = make_pair(capacity=100)
    async with running(left) as sender:
        with pytest.raises(PeerUnreachable), trio.fail_after(2 * SMALL.dead_peer_s):
            await sender.send(bytes(1000))


async def test_a_slow_large_frame_is_no_silence(autojump_clock: trio.testing.MockClock) -> None:
    left, right = make_pair()
    async with running(right) as receiver, trio.open_nursery() as nursery:

        async def drip() -> None:
            for byte in encode(bytes(100)):
                await trio.sleep(SMALL.dead_peer_s / 2)
                await left.write(bytes([byte]))

        nursery.start_soon(drip)
        assert await receiver.receive() == bytes(100)


async def test_a_heartbeat_is_sent_only_when_nothing_else_is(autojump_clock: trio.testing.MockClock) -> None:
    left, right = make_pair()
    async with running(left) as sender:
        await trio.testing.wait_all_tasks_blocked()
        right.inbox.clear()
        for _ in range(6):
            await trio.sleep(SMALL.heartbeat_s / 2)
            await sender.send(b"x")
        assert bytes(right.inbox) == encode(b"x") * 6
        right.inbox.clear()
        await trio.sleep(SMALL.heartbeat_s * 1.5)
        assert bytes(right.inbox) == HEARTBEAT


async def test_leaving_the_block_with_an_error_resets() -> None:
    left, right = make_pair()
    async with running(left) as sender:
        with pytest.raises(RuntimeError, match="mine"):
            async with sender:
                raise RuntimeError("mine")
        await sender.wait_ended()
        assert right.is_reset


async def test_a_cancelled_runner_resets() -> None:
    left, right = make_pair()
    async with running(left):
        await trio.testing.wait_all_tasks_blocked()
    assert right.is_reset


@pytest.mark.parametrize(
    "bad",
    [
        {"frame_bytes_max": 0},
        {"frame_bytes_max": 1 << 32},
        {"queue_bytes_max": 0},
        {"heartbeat_s": 5.0, "dead_peer_s": 5.0},
    ],
)
def test_impossible_limits_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be|does not fit"):
        StreamLimits(**bad)  # type: ignore[arg-type]


def test_every_failure_is_a_network_error() -> None:
    for error in (FrameTooLarge, PeerUnreachable, ReceiverStalled, StreamClosed, StreamReset):
        assert issubclass(error, NetworkError)
