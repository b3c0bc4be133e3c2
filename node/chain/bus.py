"""Tells subscribers about finalized blocks. A subscriber that falls behind is dropped and never delays a block."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from node.store.chain_store import FinalizedBlock
from proto_specs.errors import MyelinError

BACKLOG_MAX = 64
SUBSCRIBERS_MAX = 1024


class TooManySubscribers(MyelinError):
    """The node serves as many subscriptions as it can."""


class BlockBus:
    """Publishes each finalized block to every subscriber."""

    def __init__(self) -> None:
        self._subscribers: set[trio.MemorySendChannel[FinalizedBlock]] = set()

    def publish(self, block: FinalizedBlock) -> None:
        """Hand a block to every subscriber; close the subscriptions that are 64 blocks behind."""
        for subscriber in list(self._subscribers):
            try:
                subscriber.send_nowait(block)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self._subscribers.discard(subscriber)
                subscriber.close()

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[trio.MemoryReceiveChannel[FinalizedBlock]]:
        """Blocks from now on. The channel ends when its reader falls behind. Raises TooManySubscribers."""
        if len(self._subscribers) >= SUBSCRIBERS_MAX:
            raise TooManySubscribers(f"more than {SUBSCRIBERS_MAX} subscriptions")
        sender, receiver = trio.open_memory_channel[FinalizedBlock](BACKLOG_MAX)
        self._subscribers.add(sender)
        try:
            yield receiver
        finally:
            self._subscribers.discard(sender)
            sender.close()
            receiver.close()
