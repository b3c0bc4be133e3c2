"""Frames that are handed over where they arrive, and frames that go at once, with bytes pulled and pushed."""

from __future__ import annotations

import pytest
import trio

from node.p2p.errors import StreamClosed
from tests.unit.node.p2p.pipes import MemoryByteStream, make_pair
from tests.unit.node.p2p.test_framing import running


@pytest.fixture(params=[False, True], ids=["pulled", "pushed"], autouse=True)
def _pushing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryByteStream, "is_pushing", request.param)


async def test_a_consumer_gets_what_waited_and_what_comes_and_then_the_end() -> None:
    left, right = make_pair()
    got: list[bytes] = []
    async with running(left) as sender, running(right) as receiver, trio.open_nursery() as nursery:
        await sender.send(b"early")
        await trio.testing.wait_all_tasks_blocked()

        async def send() -> None:
            await trio.testing.wait_all_tasks_blocked()
            assert got == [b"early"]
            await sender.send_together([b"one", b"two"])
            await sender.close()

        nursery.start_soon(send)
        with pytest.raises(StreamClosed, match="peer"):
            await receiver.consume(got.append)
    assert got == [b"early", b"one", b"two"]


async def test_an_error_of_the_consumer_is_its_own_and_ends_its_frames() -> None:
    left, right = make_pair()
    got: list[bytes] = []

    def take(frame: bytes) -> None:
        got.append(frame)
        raise KeyError(frame)

    async with running(left) as sender, running(right) as receiver:
        await sender.send_together([b"one", b"two"])
        with pytest.raises(KeyError):
            await receiver.consume(take)
        assert got == [b"one"]
        await receiver.send(b"the stream is whole")
        assert await sender.receive() == b"the stream is whole"


async def test_what_can_go_at_once_does_and_the_rest_is_told() -> None:
    left, right = make_pair(capacity=30)
    async with running(left) as sender, running(right) as receiver:
        await trio.testing.wait_all_tasks_blocked()
        assert not sender.send_now(b""), "an empty frame is a heartbeat"
        assert not sender.send_now(bytes(1001))
        if sender.send_now(b"now"):
            assert await receiver.receive() == b"now"
        right.is_deaf = True
        while sender.send_now(bytes(10)):
            pass
        sender.reset("over")
        assert not sender.send_now(b"late")
