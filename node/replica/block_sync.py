"""Catches up by fetching ranges of blocks from several peers at once. Knows how to fetch, not how to execute.

The blocks between the head and the peers' claims are fetched in ranges, each from one peer. The range that all others
wait for is also asked of a second peer when the first is slow. Responses are checked in two steps, both outside the
loop: they form a chain (heights, parents, bodies, commits of parents), then all signatures of their commits at once.
The second step needs the validator set. It is the head's until an epoch ends: blocks that name another set wait
unchecked until the head is where that set begins. Blocks are then applied in order, one at a time.

Peers lie. A false response costs its server a penalty and all its other unproven ranges; other peers' ranges stay. A
peer that claims blocks and does not serve them may have pruned them, so it gets no penalty; it is not asked for a
while that doubles each time, so that false claims cannot hold up the sync for long.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from node.replica.block_checks import Checked, check_blocks, list_commit_jobs
from node.replica.world import Response, World
from node.store.chain_store import Head
from proto_specs.limits import BLOCKS_RESPONSE_MAX
from proto_specs.types.chain import ValidatorSet, compute_validators_hash
from proto_specs.types.gossip import BlocksRequest, BlocksResponse, FinalBlock

logger = logging.getLogger("myelin.sync")

REQUESTS_MAX = 6
"""Requests at once, one per peer; the second request for the range that all wait for comes on top."""
RANGE_BYTES = 1 << 20
"""The intended size of a response: small enough to arrive in time over a slow line."""
RANGE_BLOCKS_FIRST = 4
"""Blocks in a peer's first request, and after it was slow. Each answer doubles the number, to BLOCKS_RESPONSE_MAX."""
AHEAD_BLOCKS_MAX = 1_024
"""How far above the head blocks are fetched."""
WAITING_BYTES_MAX = 24 << 20
"""Encoded bytes above which only the block after the head is asked for. Running responses come on top."""
PATIENCE_MS = 1_000
DISTRUST_MS, DISTRUST_MS_MAX = 5_000, 300_000
DISTRUSTED_MAX = 1_024
REPORT_BLOCKS = 1_000

Apply = Callable[[FinalBlock, Callable[[], None]], None]
"""Makes a block the head that its checked commit decides; answers when done. An impossible block ends the node."""


@dataclass(slots=True, eq=False)
class _Range:
    """Blocks [start, start + count). `blocks` is empty until they arrive; `proven` once their commits were checked."""

    start: int
    count: int
    peers: list[str] = field(default_factory=list)
    """The peers that were asked; after arrival, the peer that served the range."""
    blocks: tuple[FinalBlock, ...] = ()
    sizes_bytes: tuple[int, ...] = ()
    validators_hash: bytes = b""
    is_checking: bool = False
    is_proven: bool = False


@dataclass(slots=True)
class _SyncPeer:
    """A peer's claim and its record."""

    head: int
    blocks_max: int
    overtaken: int = 0


class BlockSync:
    """`learn_head` starts it; `on_end` is called when no credible peer claims a higher block."""

    def __init__(
        self, genesis: bytes, world: World, get_head: Callable[[], Head], apply: Apply, on_end: Callable[[], None]
    ) -> None:
        self._genesis = genesis
        self._world = world
        self._get_head = get_head
        self._apply = apply
        self._on_end = on_end
        self._peers: dict[str, _SyncPeer] = {}
        self._busy: set[str] = set()
        self._distrusted: dict[str, tuple[int, int]] = {}
        """Peer -> (until when its claims are ignored, how long that was)."""
        self._ranges: list[_Range] = []
        """Ranges by height; the gaps between them are not asked for yet."""
        self._is_applying = self._is_active = False
        self._missing: int | None = None
        """A height that a peer claimed and then answered with nothing."""
        self._block_bytes = RANGE_BYTES // 16
        self._set: tuple[ValidatorSet, bytes] | None = None

    @property
    def is_running(self) -> bool:
        """Whether the sync is fetching blocks."""
        return self._is_active

    @property
    def waiting_bytes(self) -> int:
        """Encoded bytes of the blocks that arrived and are not applied yet."""
        return sum(sum(one.sizes_bytes) for one in self._ranges)

    def learn_head(self, peer: str, height: int) -> None:
        """A peer reports its height. The claim counts as long as the peer serves what it claims."""
        if height <= self._get_head().height or self._distrusted.get(peer, (0, 0))[0] > self._world.read_monotonic_ms():
            return
        known = self._peers.get(peer)
        if known is None:
            self._peers[peer] = _SyncPeer(height, 1 if peer in self._distrusted else RANGE_BLOCKS_FIRST)
        else:
            known.head = max(known.head, height)
        self._is_active = True
        self._advance()

    # What to do next

    def _advance(self) -> None:
        """Apply, check and ask for whatever is possible; end when there is nothing left to wait for."""
        if not self._is_active:
            return
        self._apply_next()
        self._check_next()
        self._ask()
        is_waiting = any(not one.blocks or one.is_checking for one in self._ranges)
        is_waiting = is_waiting or not self._busy.isdisjoint(self._peers)
        if self._is_active and not is_waiting and not self._is_applying:
            self._end()

    def _end(self) -> None:
        height = self._get_head().height
        if self._missing == height + 1:
            logger.warning("block %d is served by nobody: where peers have pruned it, join by a snapshot", height + 1)
        self._ranges.clear()
        self._peers.clear()
        self._is_active, self._missing = False, None
        self._on_end()

    def _apply_next(self) -> None:
        head = self._get_head()
        while self._ranges and self._ranges[0].start <= head.height and not self._is_applying:
            self._drop_first()  # it became the head by another way
        if self._is_applying or not self._ranges:
            return
        first = self._ranges[0]
        if first.start != head.height + 1 or not first.is_proven:
            return
        if first.validators_hash != self._hash_set():
            self._punish(first.peers[0], f"block {first.start} names another validator set than its own")
            self._apply_next()
            return
        self._is_applying = True
        self._apply(first.blocks[0], partial(self._applied, first.start))

    def _applied(self, height: int) -> None:
        self._is_applying = False
        if height % REPORT_BLOCKS == 0:
            logger.info("block %d of %d", height, max((one.head for one in self._peers.values()), default=height))
        self._advance()

    def _drop_first(self) -> None:
        """The first range begins a block higher. A response under way for it is cut to fit when it arrives."""
        first = self._ranges[0]
        first.start, first.count = first.start + 1, first.count - 1
        first.blocks, first.sizes_bytes = first.blocks[1:], first.sizes_bytes[1:]
        if not first.count:
            self._ranges.pop(0)

    # Asking

    def _ask(self) -> None:
        connected = set(self._world.list_peers())
        for peer in [peer for peer in self._peers if peer not in connected]:
            del self._peers[peer]
        while len(self._busy) < REQUESTS_MAX:
            start, room = self._find_gap()
            is_next = start == self._get_head().height + 1
            able = self._list_able(start)
            if not able or not room or (self.waiting_bytes > WAITING_BYTES_MAX and not is_next):
                return
            peer = self._choose(able)
            known = self._peers[peer]
            fitting = max(1, RANGE_BYTES // self._block_bytes)
            one = _Range(start, min(room, fitting, known.blocks_max, known.head - start + 1))
            self._ranges.append(one)
            self._ranges.sort(key=lambda one: one.start)
            self._request(one, peer)

    def _find_gap(self) -> tuple[int, int]:
        """The first height that is in no range, and how many such heights follow in a row."""
        base = self._get_head().height + 1
        at = base
        for one in self._ranges:
            if one.start > at:
                return at, one.start - at
            at = max(at, one.start + one.count)
        return at, max(0, base + AHEAD_BLOCKS_MAX - at)

    def _list_able(self, start: int) -> list[str]:
        """Free peers with that block. A peer with unchecked blocks beyond the head's set serves no more of them."""
        barred = set(self._busy)
        if start != self._get_head().height + 1:
            barred.update(one.peers[0] for one in self._ranges if one.blocks and not one.is_proven)
        return [peer for peer, known in self._peers.items() if known.head >= start and peer not in barred]

    def _choose(self, able: list[str]) -> str:
        """One of the peers that were overtaken least often."""
        least = min(self._peers[peer].overtaken for peer in able)
        best = [peer for peer in able if self._peers[peer].overtaken == least]
        return best[self._world.random_below(len(best))]

    def _request(self, one: _Range, peer: str) -> None:
        one.peers.append(peer)
        self._busy.add(peer)
        request = BlocksRequest(one.start, one.count)
        self._world.request(peer, request, partial(self._take, one, peer, request))
        self._world.set_timer(PATIENCE_MS, partial(self._hurry, one))

    def _hurry(self, one: _Range) -> None:
        """All others wait for this range and its peer is slow: ask a second peer too."""
        if one not in self._ranges or one.blocks or len(one.peers) != 1:
            return
        able = self._list_able(one.start)
        if able and one.start == self._get_head().height + 1:
            self._request(one, self._choose(able))
        else:
            self._world.set_timer(PATIENCE_MS, partial(self._hurry, one))

    # Answers

    def _take(self, one: _Range, peer: str, request: BlocksRequest, response: Response | None) -> None:
        """Cheap checks first; then, outside the loop, whether the blocks form a chain."""
        self._busy.discard(peer)
        if one not in self._ranges or one.blocks or peer not in one.peers:
            self._advance()
            return
        if not isinstance(response, BlocksResponse) or not response.blocks:
            self._take_none(one, peer, request, response)
            return
        blocks = response.blocks[: request.count]
        if (known := self._peers.get(peer)) is not None:
            known.head = max(known.head, response.head_height)
            known.blocks_max = min(BLOCKS_RESPONSE_MAX, 2 * known.blocks_max)
        self._busy.add(peer)  # until they are checked: a peer has at most one response in memory
        self._world.start_job(partial(check_blocks, request.start, blocks), partial(self._accept, one, peer))

    def _take_none(self, one: _Range, peer: str, request: BlocksRequest, response: Response | None) -> None:
        known = self._peers.get(peer)
        if isinstance(response, BlocksResponse):
            if response.head_height < request.start:
                self._punish(peer, f"claimed more blocks than the {response.head_height} it has")
            else:
                self._missing = one.start
        elif known is not None and known.blocks_max > RANGE_BLOCKS_FIRST:
            known.blocks_max = RANGE_BLOCKS_FIRST  # it served before: its line may be slow
            known.overtaken += 1
            self._withdraw(one, peer)
            self._advance()
            return
        self._withdraw(one, peer)
        self._distrust(peer)
        self._advance()

    def _withdraw(self, one: _Range, peer: str) -> None:
        """The peer stops working on the range. Without any peer the range is asked for again."""
        if peer in one.peers:
            one.peers.remove(peer)
        if not one.peers and one in self._ranges:
            self._ranges.remove(one)

    def _accept(self, one: _Range, peer: str, found: Checked | str) -> None:
        self._busy.discard(peer)
        if isinstance(found, str):
            self._punish(peer, found)
        elif one in self._ranges and not one.blocks and peer in one.peers:
            for other in one.peers:
                if other != peer and (known := self._peers.get(other)) is not None:
                    known.overtaken += 1
            self._keep(one, peer, found)
        self._advance()

    def _keep(self, one: _Range, peer: str, found: Checked) -> None:
        """Replaces the range that was asked for by one range for each run of blocks with the same validator set."""
        skip = one.start - found.start  # heights that were applied meanwhile
        at = self._ranges.index(one)
        kept = []
        for run in found.runs:
            blocks, sizes = run.blocks[max(0, skip) :], run.sizes_bytes[max(0, skip) :]
            skip -= len(run.blocks)
            if blocks:
                start = blocks[0].block.header.height
                kept.append(_Range(start, len(blocks), [peer], blocks, sizes, run.validators_hash))
        self._ranges[at : at + 1] = kept

    # Commits

    def _hash_set(self) -> bytes:
        validators = self._get_head().validators
        if self._set is None or self._set[0] != validators:
            self._set = (validators, compute_validators_hash(validators))
        return self._set[1]

    def _check_next(self) -> None:
        """Check the commits of all blocks that name the head's set. If the next one names another, its peer lied."""
        current, head = self._hash_set(), self._get_head()
        for one in list(self._ranges):
            if not one.blocks or one.is_checking or one.is_proven or one not in self._ranges:
                continue
            if one.validators_hash == current:
                self._check(one, head.validators)
            elif one.start == head.height + 1 and not self._is_applying:
                self._punish(one.peers[0], f"block {one.start} names another validator set than its own")

    def _check(self, one: _Range, validators: ValidatorSet) -> None:
        one.is_checking = True
        peer = one.peers[0]

        def check(jobs: object) -> None:
            if isinstance(jobs, str):
                done(jobs)
            else:
                assert isinstance(jobs, list)
                self._world.check_signatures(
                    jobs, lambda answers: done(None if all(answers) else "a bad signature in a commit")
                )

        def done(fault: str | None) -> None:
            one.is_checking = False
            if one not in self._ranges:
                pass  # its range was found false meanwhile, or became the head
            elif fault is not None:
                self._punish(peer, fault)
            else:
                one.is_proven = True
                self._block_bytes = (3 * self._block_bytes + max(one.sizes_bytes)) // 4
                self._distrusted.pop(peer, None)
            self._advance()

        self._world.start_job(partial(list_commit_jobs, one.blocks, validators, self._genesis), check)

    # Blame

    def _punish(self, peer: str, fault: str) -> None:
        """The peer served a false block: penalise it and drop all its other unproven ranges."""
        current = self._hash_set()
        for one in [one for one in self._ranges if peer in one.peers]:
            if not one.is_proven or one.validators_hash != current:
                self._withdraw(one, peer)
        self._distrust(peer)
        self._world.penalise(peer, fault)

    def _distrust(self, peer: str) -> None:
        self._peers.pop(peer, None)
        last_ms = self._distrusted.pop(peer, (0, 0))[1]
        lasts_ms = min(max(DISTRUST_MS, 2 * last_ms), DISTRUST_MS_MAX)
        self._distrusted[peer] = (self._world.read_monotonic_ms() + lasts_ms, lasts_ms)
        if len(self._distrusted) > DISTRUSTED_MAX:
            del self._distrusted[next(iter(self._distrusted))]
