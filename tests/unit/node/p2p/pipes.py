"""In-memory byte streams with flow control, so that framing is tested without sockets and on a virtual clock."""

from __future__ import annotations

import trio

from node.p2p.errors import StreamReset


class MemoryByteStream:
    """One end of a pair; holds at most `capacity` unread bytes, then its writer waits."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
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
            self.peer.inbox += left[:room]
            left = left[room:]
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
