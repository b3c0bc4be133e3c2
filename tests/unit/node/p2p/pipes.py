"""In-memory byte streams with flow control, so that framing is tested without sockets and on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable

import trio

from node.p2p.errors import StreamReset


class MemoryByteStream:
    """One end of a pair; holds at most `capacity` unread bytes, then its writer waits."""

    is_pushing = False

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.sink: Callable[[bytes], bool] | None = None
        self.inbox = bytearray()
        self.peer: MemoryByteStream = self
        self.is_ended = False
        self.is_reset = False
        self.is_deaf = False
        self.changed = trio.Event()

    def notify(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def read(self, limit: int) -> bytes:
        await trio.lowlevel.checkpoint()
        while self.is_deaf or not self.inbox:
            if self.is_reset:
                raise StreamReset("reset")
            if self.is_ended and not self.is_deaf:
                return b""
            await self.changed.wait()
        data = bytes(self.inbox[:limit])
        del self.inbox[:limit]
        self.peer.notify()
        return data

    def push_to(self, sink: Callable[[bytes], bool] | None) -> None:
        self.sink = sink if self.is_pushing else None

    def write_now(self, data: bytes) -> bool:
        peer = self.peer
        if not self.is_pushing or self.is_reset or len(data) > self.capacity - len(peer.inbox):
            return False
        if not peer.take_pushed(data):
            peer.inbox += data
            peer.notify()
        return True

    def take_pushed(self, data: bytes) -> bool:
        return self.sink is not None and not self.inbox and not self.is_deaf and self.sink(data)

    async def write(self, data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        left = data
        while left:
            if self.is_reset:
                raise StreamReset("reset")
            room = self.capacity - len(self.peer.inbox)
            if room <= 0:
                await self.changed.wait()
                continue
            part, left = left[:room], left[room:]
            if self.peer.take_pushed(part):
                continue
            self.peer.inbox += part
            self.peer.notify()

    async def finish(self) -> None:
        await trio.lowlevel.checkpoint()
        self.peer.is_ended = True
        self.peer.notify()

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        for end in (self, self.peer):
            end.is_reset = True
            end.notify()

    async def wait_torn(self) -> None:
        while not self.is_reset:
            await self.changed.wait()


def make_pair(capacity: int = 1 << 20) -> tuple[MemoryByteStream, MemoryByteStream]:
    left, right = MemoryByteStream(capacity), MemoryByteStream(capacity)
    left.peer, right.peer = right, left
    return left, right
