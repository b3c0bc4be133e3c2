"""A link to a peer that reads slowly or not at all costs a bounded amount of memory, and then is lost."""

from __future__ import annotations

import pytest
import trio

from node.client import link as module
from node.client.link import FrameLink, LinkLost
from node.p2p.errors import StreamReset
from proto_specs.codec import decode_as
from proto_specs.errors import DecodeError
from proto_specs.types.wire import Frame, Rows, Token


class FakeStream:
    """Takes frames while its gate is open."""

    def __init__(self) -> None:
        self.gate = trio.Event()
        self.taken: list[bytes] = []
        self.takes_now = False
        self.at_once: list[bytes] = []
        self.writes: list[int] = []
        self.incoming: list[bytes] = []
        self.resets: list[str] = []
        self.is_closed = False

    def send_now(self, payload: bytes) -> bool:
        if self.takes_now:
            self.at_once.append(payload)
        return self.takes_now

    async def send_together(self, payloads: list[bytes]) -> None:
        await self.gate.wait()
        if self.resets:
            raise StreamReset("reset")
        self.taken += payloads
        self.writes.append(len(payloads))

    async def receive(self) -> bytes:
        return self.incoming.pop(0)

    async def close(self) -> None:
        self.is_closed = True

    def reset(self, reason: str) -> None:
        self.resets.append(reason)
        self.gate.set()


def make_link() -> tuple[FrameLink, FakeStream]:
    stream = FakeStream()
    return FrameLink(stream, "peer"), stream  # type: ignore[arg-type]


def make_rows(size: int) -> Rows:
    return Rows(bytes(32), 1, 0, 1, bytes(size))


async def test_frames_keep_their_order_and_finish_waits_for_them(nursery) -> None:
    link, stream = make_link()
    nursery.start_soon(link.run)
    frames = [Token(bytes(32), index, 7, 0) for index in range(50)]
    for frame in frames:
        link.send(frame)
    stream.gate.set()
    await link.finish()
    assert [decode_as(Frame, one) for one in stream.taken] == frames
    assert stream.writes == [1, 49] or stream.writes == [50]
    assert stream.is_closed
    with pytest.raises(LinkLost):
        link.send(frames[0])


async def test_frames_of_one_request_go_at_once_and_those_of_several_together(nursery) -> None:
    link, stream = make_link()
    stream.takes_now = True
    stream.gate.set()
    link.send(Token(bytes(32), 0, 7, 0))
    link.send(Token(bytes(32), 1, 7, 0))
    assert not stream.at_once, "nobody writes yet"
    nursery.start_soon(link.run)
    await trio.testing.wait_all_tasks_blocked()
    for index in range(2, 4):
        link.send(Token(bytes(32), index, 7, 0))
    assert len(stream.at_once) == 2
    for request in range(4):
        link.send(Token(bytes([request]) * 32, 9, 7, 0))
    await trio.testing.wait_all_tasks_blocked()
    assert len(stream.at_once) == 3, "the first is still of the request before"
    assert stream.writes == [2, 3]
    link.send(Token(bytes([3]) * 32, 10, 7, 0))
    assert len(stream.at_once) == 4
    await link.finish()


async def test_large_frames_are_written_one_by_one(nursery) -> None:
    link, stream = make_link()
    stream.gate.set()
    for _ in range(3):
        link.send(make_rows(module.TOGETHER_BYTES))
    nursery.start_soon(link.run)
    await link.finish()
    assert stream.writes == [1, 1, 1]


async def test_a_peer_that_reads_nothing_costs_so_many_bytes(nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTBOX_BYTES_MAX", 10_000)
    link, stream = make_link()
    nursery.start_soon(link.run)
    for _ in range(9):
        link.send(make_rows(1000))
    with pytest.raises(LinkLost):
        link.send(make_rows(1000))
    assert link.is_lost
    assert stream.resets


async def test_bytes_that_were_taken_are_not_counted(nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OUTBOX_BYTES_MAX", 3_000)
    link, stream = make_link()
    stream.gate.set()
    nursery.start_soon(link.run)
    for _ in range(50):
        link.send(make_rows(1000))
        await trio.testing.wait_all_tasks_blocked()
    assert len(stream.taken) == 50


async def test_a_peer_that_reads_nothing_costs_so_many_frames() -> None:
    link, stream = make_link()
    for index in range(module.OUTBOX_FRAMES_MAX):
        link.send(Token(bytes(32), index, 7, 0))
    with pytest.raises(LinkLost):
        link.send(Token(bytes(32), 0, 7, 0))
    assert stream.resets


async def test_a_frame_that_is_not_taken_in_time_loses_the_link(nursery, autojump_clock) -> None:
    link, stream = make_link()
    nursery.start_soon(link.run)
    link.send(make_rows(10))
    await trio.sleep(module.SEND_TIMEOUT_S + 1)
    assert link.is_lost
    assert stream.resets
    with pytest.raises(LinkLost):
        link.send(make_rows(10))
    with trio.fail_after(1):
        await link.finish()


async def test_garbage_is_a_decode_error() -> None:
    link, stream = make_link()
    stream.incoming = [b"\xc1", b"", bytes(10)]
    for _ in range(3):
        with pytest.raises(DecodeError):
            await link.receive()
