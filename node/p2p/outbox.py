"""The queue of messages for one peer of a topic: encoded once for all peers, bounded in bytes. Knows no libp2p."""

from __future__ import annotations

from collections import deque

import trio


class Outbox:
    """Control goes before messages, each in order. An entry without room is refused, so that a peer that does not read
    costs at most `bytes_max`."""

    def __init__(self, bytes_max: int, control_max: int) -> None:
        self._bytes_max = bytes_max
        self._control_max = control_max
        self._control: deque[bytes] = deque()
        self._messages: deque[bytes] = deque()
        self._message_bytes = 0
        self._news = trio.Event()
        self._is_closed = False

    def push(self, data: bytes, *, is_control: bool) -> bool:
        """Queue bytes that are ready for the wire; False when there is no room."""
        if is_control:
            if len(self._control) >= self._control_max:
                return False
            self._control.append(data)
        else:
            if self._message_bytes + len(data) > self._bytes_max:
                return False
            self._messages.append(data)
            self._message_bytes += len(data)
        self._news.set()
        return True

    async def pop(self) -> bytes | None:
        """The next entry to send; None when closed."""
        while not self._is_closed:
            if self._control:
                return self._control.popleft()
            if self._messages:
                data = self._messages.popleft()
                self._message_bytes -= len(data)
                return data
            self._news = trio.Event()
            await self._news.wait()
        return None

    def close(self) -> None:
        """Ends the queue; nothing is sent after it."""
        self._is_closed = True
        self._news.set()
