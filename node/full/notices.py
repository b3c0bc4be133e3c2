"""Logs what an operator wants to know of each block beyond its number: elections, jails, slashes, and its own seat."""

from __future__ import annotations

import logging

from consensus.runtime.staking.events import EpochEnded, ValidatorJailed
from node.chain.bus import BlockBus
from node.store.records import FinalizedBlock
from proto_specs.ss58 import encode_address

logger = logging.getLogger("myelin.staking")


async def log_notices(bus: BlockBus, elected: frozenset[bytes], own: bytes | None, ss58_prefix: int) -> None:
    """Follow the chain until cancelled. `elected` are operators of the last block; `own` is this node's, if any."""
    while True:
        async with bus.subscribe() as blocks:
            async for block in blocks:
                for level, text in list_notices(block, elected, own, ss58_prefix):
                    logger.log(level, "%s", text)
                elected = get_elected(block)


def get_elected(block: FinalizedBlock) -> frozenset[bytes]:
    """The operators that decide the next block."""
    return frozenset(one.operator for one in block.head.validators.members)


def list_notices(
    block: FinalizedBlock, elected: frozenset[bytes], own: bytes | None, ss58_prefix: int
) -> list[tuple[int, str]]:
    """(log level, line) for each. What concerns `own` is a warning when it costs the operator something."""
    height, found = block.block.header.height, []

    def name(operator: bytes) -> str:
        return encode_address(operator, ss58_prefix) + (" (this node)" if operator == own else "")

    for event in (*block.executed.events.initialize, *block.executed.events.finalize):
        if isinstance(event, ValidatorJailed):
            level = logging.WARNING if event.operator == own else logging.INFO
            text = f"block {height}: {name(event.operator)} is jailed until block {event.until}: it signed "
            text += f"{event.signed} of {event.blocks} blocks, and loses {event.amount} nmyl of stake"
            found.append((level, text))
        if isinstance(event, EpochEnded):
            found.append((logging.INFO, f"block {height}: epoch {event.epoch} ended, {event.validators} validators"))
    after = get_elected(block)
    for operator in sorted(after - elected):
        found.append((logging.INFO, f"block {height}: {name(operator)} is elected"))
    for operator in sorted(elected - after):
        level = logging.WARNING if operator == own else logging.INFO
        found.append((level, f"block {height}: {name(operator)} is not elected any more"))
    return found
