"""A light client at work: goes forward with one source, compares with witnesses, and stops at a fork."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import trio

from consensus.light.attack import make_attack
from consensus.light.errors import ForkDetected, HeightMissing, LightError, TrustMismatch
from consensus.light.skipping import AskBlock, Skipping, SkipStep
from consensus.light.verify import LightParams, Trusted, make_trusted, validate_light_block, verify_backwards
from node.light.errors import SourceLost
from node.light.source import LightSource
from proto_specs.types.chain import compute_block_hash
from proto_specs.types.gossip import LightBlock

logger = logging.getLogger("myelin.light")

BACKWARDS_BLOCKS_MAX = 100_000
"""The most headers walked back; each of them is fetched."""
BACKWARDS_AT_ONCE = 8
"""Headers that are requested at a time."""

ReadClock = Callable[[], int]
"""Unix time in milliseconds."""


class NobodyConfirms(LightError):
    """Witnesses exist, and none of them has the block that the source served."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """A verified block, with the names of the witnesses that have it and the reasons of the others."""

    block: LightBlock
    trusted: Trusted
    steps: int
    agreeing: tuple[str, ...]
    dropped: tuple[str, ...]


async def verify_to(
    start: Trusted, height: int, source: LightSource, params: LightParams, now_ms: ReadClock
) -> tuple[SkipStep, ...]:
    """The steps from `start` to `height` as one source serves them. Raises LightError, SourceLost."""
    way = Skipping(start, height, params)
    while (ask := way.ask) is not None:
        if isinstance(ask, AskBlock):
            way.take_block(await source.get_block(ask.height), now_ms())
        else:
            way.take_handover(await source.get_handover(ask.height), now_ms())
    return way.steps


async def verify_with_witnesses(
    start: Trusted,
    height: int,
    source: LightSource,
    witnesses: Sequence[LightSource],
    params: LightParams,
    now_ms: ReadClock,
    needs_witness: bool = True,
) -> Confirmed:
    """Verify the block of a height above `start` with one source, then compare it with every witness.

    Raises ForkDetected, with the evidence, when a witness shows another block that follows by the same rules;
    NobodyConfirms when witnesses exist and none confirms; the errors of `verify_to`. A witness that does not answer,
    or cannot prove its claim, is dropped.
    """
    steps = await verify_to(start, height, source, params, now_ms)
    last = steps[-1]
    agreeing: list[str] = []
    dropped: list[str] = []
    for witness in witnesses:
        try:
            await _compare(start, steps, witness, params, now_ms)
            agreeing.append(witness.name)
        except ForkDetected:
            raise
        except (SourceLost, LightError) as error:
            logger.warning("witness dropped: %s", error, extra={"witness": witness.name})
            dropped.append(f"{witness.name}: {error}")
    if needs_witness and witnesses and not agreeing:
        raise NobodyConfirms(f"no witness confirms block {height}: {'; '.join(dropped)}")
    return Confirmed(last.block, last.trusted, len(steps), tuple(agreeing), tuple(dropped))


async def walk_back(top: Trusted, height: int, source: LightSource, params: LightParams) -> LightBlock:
    """The block of a height at or below a trusted one, by parent hashes. Raises LightError, SourceLost."""
    if top.height - height > BACKWARDS_BLOCKS_MAX:
        raise LightError(f"block {height} is more than {BACKWARDS_BLOCKS_MAX} blocks back: name a nearer one to trust")
    block = await _get(source, top.height)
    if compute_block_hash(block.header) != top.block_hash:
        raise TrustMismatch(f"block {top.height} of {source.name} is not the one that is trusted")
    while block.header.height > height:
        above = block.header.height
        for below in await _get_many(source, range(above - 1, max(height, above - BACKWARDS_AT_ONCE) - 1, -1)):
            verify_backwards(block.header, below.header)
            block = below
    validate_light_block(block, params.genesis)
    return block


async def fetch_trusted(height: int, block_hash: bytes, source: LightSource, genesis: bytes) -> Trusted:
    """The block that the operator trusts by its hash, with its set. Raises LightError, SourceLost."""
    block = await _get(source, height)
    if (block.header.height, compute_block_hash(block.header)) != (height, block_hash):
        raise TrustMismatch(f"block {height} of {source.name} is not the one you trust")
    validate_light_block(block, genesis)
    return make_trusted(block)


async def _compare(
    start: Trusted, steps: Sequence[SkipStep], witness: LightSource, params: LightParams, now_ms: ReadClock
) -> None:
    """Returns when the witness has the same last block. Raises ForkDetected when it proves another one.

    Raises LightError or SourceLost when the witness is of no use.
    """
    common = start
    target = steps[-1]
    other = await _get(witness, target.trusted.height)
    if compute_block_hash(other.header) == target.trusted.block_hash:
        return
    for step in steps:
        height = step.trusted.height
        shown = other if step is target else await _get(witness, height)
        if compute_block_hash(shown.header) == step.trusted.block_hash:
            common = step.trusted
            continue
        theirs = (await verify_to(common, height, witness, params, now_ms))[-1]
        if theirs.trusted.block_hash == step.trusted.block_hash:
            raise LightError(f"the witness has two answers for block {height}")
        raise ForkDetected(make_attack(common.height, common.block_hash, step.block, theirs.block))
    raise LightError(f"the witness has two answers for block {target.trusted.height}")


async def _get(source: LightSource, height: int) -> LightBlock:
    found = await source.get_block(height)
    if found is None:
        raise HeightMissing(f"{source.name} has no block {height}")
    return found


async def _get_many(source: LightSource, heights: range) -> list[LightBlock]:
    """In the order of `heights`. Raises as `_get` does for the first that fails."""
    found: dict[int, LightBlock | Exception] = {}

    async def get(height: int) -> None:
        try:
            found[height] = await _get(source, height)
        except (LightError, SourceLost) as error:
            found[height] = error

    async with trio.open_nursery() as nursery:
        for height in heights:
            nursery.start_soon(get, height)
    blocks: list[LightBlock] = []
    for height in heights:
        one = found[height]
        if isinstance(one, Exception):
            raise one
        blocks.append(one)
    return blocks
