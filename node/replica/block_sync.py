"""Catching up by ranges of blocks from several peers at once: ask, check commits by the batch, apply in order.

A range is asked of one peer. Its blocks have to link to each other and each has to carry a commit of the set that its
header names; the signatures of a whole range are checked at once, away from the loop. Blocks are then applied in order,
one at a time, by the replica. A peer that serves anything else than what it was asked for loses its range to another
one and is penalised; what the others served stays.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from consensus.bft.commit import compute_commit_sign_bytes, verify_commit_shape
from consensus.bft.errors import CommitError
from node.replica.world import Response, World
from node.signatures.jobs import SignatureJob
from node.store.chain_store import Head
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import compute_block_hash, compute_body_root, compute_commit_hash, compute_validators_hash
from proto_specs.types.gossip import BlocksRequest, BlocksResponse, FinalBlock

logger = logging.getLogger("myelin.sync")

RANGE_BLOCKS = 16
RANGES_MAX = 8
"""So many ranges are under way or wait to be applied."""
WAITING_BYTES_MAX = 64 << 20
REPORT_BLOCKS = 1_000

Apply = Callable[[FinalBlock, Callable[[], None]], None]
"""Make a block the head that its commit, checked, decides; answers when it is. One that cannot be ends the node."""


@dataclass(slots=True)
class _Range:
    """Blocks [start, start + count) of the chain; `blocks` is None until they are here and checked."""

    start: int
    count: int
    peer: str | None = None
    blocks: tuple[FinalBlock, ...] | None = None
    size_bytes: int = 0


class BlockSync:
    """`learn_head` sets it off; `on_end` is called when nobody has more, or nobody that claims it serves it."""

    def __init__(
        self, genesis: bytes, world: World, get_head: Callable[[], Head], apply: Apply, on_end: Callable[[], None]
    ) -> None:
        self._genesis = genesis
        self._world = world
        self._get_head = get_head
        self._apply = apply
        self._on_end = on_end
        self._heads: dict[str, int] = {}
        self._ranges: list[_Range] = []
        self._is_applying = False

    @property
    def is_running(self) -> bool:
        """Whether blocks are under way."""
        return bool(self._ranges) or self._is_applying

    def learn_head(self, peer: str, height: int) -> None:
        """A peer says how far it is. Believed only as long as it serves what it claims."""
        self._heads[peer] = height
        self._ask()

    def _target(self) -> int:
        return max(self._heads.values(), default=0)

    def _ask(self) -> None:
        """Give ranges that nobody works on to peers that claim to have them, one range a peer."""
        self._extend()
        busy = {one.peer for one in self._ranges if one.blocks is None}
        connected = self._world.list_peers()
        for peer in [peer for peer in self._heads if peer not in connected]:
            del self._heads[peer]
        for one in self._ranges:
            if one.peer is not None:
                continue
            able = [peer for peer, height in self._heads.items() if peer not in busy and height >= one.start]
            if not able:
                continue
            peer = able[self._world.random_below(len(able))]
            one.peer = peer
            busy.add(peer)
            self._world.request(peer, BlocksRequest(one.start, one.count), partial(self._take, one, peer))
        if self._ranges and not self._is_applying and not any(one.peer for one in self._ranges):
            self._end()  # nobody can serve what somebody claimed

    def _extend(self) -> None:
        """More ranges, up to what is claimed, while there is room."""
        target = self._target()
        next_start = self._ranges[-1].start + self._ranges[-1].count if self._ranges else self._get_head().height + 1
        while next_start <= target and len(self._ranges) < RANGES_MAX:
            if sum(one.size_bytes for one in self._ranges) > WAITING_BYTES_MAX:
                return
            count = min(RANGE_BLOCKS, target - next_start + 1)
            self._ranges.append(_Range(next_start, count))
            next_start += count

    def _take(self, one: _Range, peer: str, response: Response | None) -> None:
        """Check what came, first what costs nothing; then the signatures of all."""
        if one.peer != peer or one not in self._ranges:
            return
        if not isinstance(response, BlocksResponse) or not response.blocks:
            self._give_up(one, peer, None)
            return
        blocks = response.blocks[: one.count]
        fault = self._find_fault(one, blocks)
        if fault is not None:
            self._give_up(one, peer, fault)
            return
        jobs = [job for final in blocks for job in self._list_jobs(final)]
        self._world.check_signatures(jobs, partial(self._accept, one, peer, blocks))

    def _find_fault(self, one: _Range, blocks: tuple[FinalBlock, ...]) -> str | None:
        """Why these are not the blocks of the range. The set of a later epoch is checked when its turn comes."""
        parent: bytes | None = None
        known = self._get_head().validators
        for place, final in enumerate(blocks):
            block, header = final.block, final.block.header
            block_hash = compute_block_hash(header)
            if header.height != one.start + place or (parent is not None and header.parent_hash != parent):
                return f"block {one.start + place} does not follow its parent"
            if final.commit.height != header.height or final.commit.block_hash != block_hash:
                return f"the commit of block {header.height} is for another one"
            if header.body_root != compute_body_root(block.evidence, block.transactions):
                return f"the body of block {header.height} is another one's"
            if header.last_commit_hash != compute_commit_hash(block.last_commit):
                return f"block {header.height} does not hold the commit of its parent"
            if header.validators_hash == compute_validators_hash(known):
                try:
                    verify_commit_shape(final.commit, known, header.height, block_hash)
                except CommitError as error:
                    return str(error)
            parent = block_hash
        return None

    def _list_jobs(self, final: FinalBlock) -> list[SignatureJob]:
        digest = hash_tagged(Tag.VOTE_SIGN, compute_commit_sign_bytes(final.commit, self._genesis))
        return [SignatureJob(one.validator, digest, one.signature) for one in final.commit.signatures]

    def _accept(self, one: _Range, peer: str, blocks: tuple[FinalBlock, ...], answers: list[bool]) -> None:
        if one.peer != peer or one not in self._ranges:
            return
        if not all(answers):
            self._give_up(
                one, peer, f"a bad signature in the commits of blocks {one.start} to {one.start + len(blocks)}"
            )
            return
        one.blocks, one.size_bytes = blocks, sum(len(encode(final)) for final in blocks)
        if len(blocks) < one.count:
            rest = _Range(one.start + len(blocks), one.count - len(blocks))
            one.count = len(blocks)
            self._ranges.insert(self._ranges.index(one) + 1, rest)
        self._ask()
        self._apply_next()

    def _give_up(self, one: _Range, peer: str, fault: str | None) -> None:
        """The range goes to somebody else; a peer that has not got what it claims is asked no more."""
        one.peer = one.blocks = None
        one.size_bytes = 0
        self._heads.pop(peer, None)
        if fault is not None:
            self._world.penalise(peer, fault)
        self._ask()

    def _apply_next(self) -> None:
        if self._is_applying or not self._ranges or not self._ranges[0].blocks:
            return
        first = self._ranges[0]
        assert first.blocks is not None
        final, peer, head = first.blocks[0], first.peer, self._get_head()
        assert peer is not None
        height = final.block.header.height
        if height <= head.height:
            self._drop_first()
            return
        try:
            verify_commit_shape(final.commit, head.validators, height, compute_block_hash(final.block.header))
        except CommitError as error:
            self._give_up(first, peer, str(error))
            return
        self._is_applying = True
        self._apply(final, partial(self._applied, height))

    def _applied(self, height: int) -> None:
        self._is_applying = False
        if height % REPORT_BLOCKS == 0:
            logger.info("block %d of %d", height, self._target())
        self._drop_first()

    def _drop_first(self) -> None:
        """The first block of the first range is the head, or behind it."""
        first = self._ranges[0]
        assert first.blocks is not None
        first.blocks = first.blocks[1:]
        first.start, first.count = first.start + 1, first.count - 1
        if not first.blocks:
            self._ranges.pop(0)
        self._ask()
        if self._ranges:
            self._apply_next()
        else:
            self._end()

    def _end(self) -> None:
        self._ranges.clear()
        self._on_end()
