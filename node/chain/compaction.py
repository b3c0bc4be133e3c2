"""Returns pruned disk space from time to time, in a thread: blocks and votes continue meanwhile."""

from __future__ import annotations

import logging

import trio

from node.chain.bus import BlockBus
from node.store.chain_store import ChainStore

logger = logging.getLogger("myelin.store")


async def compact_when_due(store: ChainStore, bus: BlockBus) -> None:
    """Watch the chain and compact whenever enough was pruned, until cancelled.

    Cancellation waits for a running compaction: the database must not be closed under it.
    """
    while True:
        async with bus.subscribe() as blocks:
            async for _ in blocks:
                if store.is_compaction_due:
                    break
            else:
                continue
        await trio.to_thread.run_sync(store.compact)
        logger.info("what was pruned is returned to the disk")
