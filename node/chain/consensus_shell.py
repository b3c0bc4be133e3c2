"""Drives the BFT core: logs each input, hands it over, carries out the effects. Clock, disk, keys and network are here.

Every input is in the write-ahead log before it is handled, and the log is synced before anything is signed. After a
crash the inputs of the unfinished height are handled again: signing then gives the identical signatures, and effects
whose answer is not in the log are carried out as if for the first time.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import trio

from consensus.bft.core import BftCore
from consensus.bft.effects import (
    BuildBlock,
    CastVote,
    Decide,
    Effect,
    Propose,
    ReportEvidence,
    ScheduleTimeout,
    ValidateBlock,
)
from consensus.bft.inputs import (
    BlockBuilt,
    BlockValidated,
    Input,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
)
from consensus.bft.timeouts import Timeouts
from consensus.runtime.errors import BlockError
from consensus.runtime.staking.slashing import validate_evidence
from node.chain.blocks import BlockInvalid, ExecutedCandidate, Proposer, build_block, finalize_block, validate_block
from node.chain.bus import BlockBus
from node.chain.pool import TransactionPool
from node.chain.wal_records import encode_input, read_inputs
from node.signatures.processes import SignatureProcesses
from node.signer import Signer, SignRefused, Slot
from node.store.chain_store import ChainStore, Head
from node.wal import Wal
from proto_specs.limits import BLOCK_INHERENTS_MAX
from proto_specs.types.chain import (
    Block,
    DuplicateVote,
    Proposal,
    Vote,
    VoteKind,
    compute_block_hash,
    compute_proposal_bytes,
    compute_vote_bytes,
)

logger = logging.getLogger("myelin.consensus")

INPUTS_MAX = 4_096
DEFAULT_TIMEOUTS = Timeouts(3_000, 500, 1_000, 500, 1_000, 500)


class Gossip(Protocol):
    """Where own proposals and votes go. What peers send comes back through `ConsensusShell.deliver`."""

    def broadcast_proposal(self, proposal: Proposal) -> None:
        """Send to all peers; must not block."""

    def broadcast_vote(self, vote: Vote) -> None:
        """Send to all peers; must not block."""


@dataclass(frozen=True, slots=True)
class ShellParts:
    """What the shell drives. `signer` is None on a node that only follows; `now_ms` is Unix time."""

    store: ChainStore
    pool: TransactionPool
    signer: Signer | None
    gossip: Gossip
    bus: BlockBus
    signatures: SignatureProcesses
    wal_path: Path
    block_interval_ms: int
    now_ms: Callable[[], int]
    timeouts: Timeouts = DEFAULT_TIMEOUTS


class ConsensusShell:
    """Consensus of one node. `run` is its only task; everything else may be called on the same event loop."""

    def __init__(self, parts: ShellParts) -> None:
        self._parts = parts
        self._core = BftCore(parts.timeouts)
        self._head: Head = parts.store.get_head()
        self._candidates: dict[bytes, ExecutedCandidate] = {}
        self._evidence: dict[bytes, DuplicateVote] = {}
        self._local: deque[Input] = deque()
        self._held: list[Input] = []
        self._deliver, self._delivered = trio.open_memory_channel[Input](math.inf)

    def deliver(self, event: Input) -> None:
        """A peer's checked message. Dropped when 4096 inputs wait; own timers never are, liveness rests on them."""
        if self._delivered.statistics().current_buffer_used >= INPUTS_MAX:
            logger.warning("consensus is %d inputs behind: dropping %s", INPUTS_MAX, type(event).__name__)
            return
        self._deliver.send_nowait(event)

    async def run(self) -> None:
        """Decide heights until cancelled."""
        records = await trio.to_thread.run_sync(read_inputs, self._parts.wal_path)
        wal = Wal(self._parts.wal_path)
        async with trio.open_nursery() as nursery:
            try:
                target, started_s = self._head.height + 1, trio.current_time()
                await self._replay([event for height, event in records if height == target], wal, nursery)
                while True:
                    await self._decide_height(target, wal, nursery)
                    await self._wait_until(started_s + self._parts.block_interval_ms / 1000, wal, nursery)
                    target, started_s = self._head.height + 1, trio.current_time()
                    await self._start_height(wal, nursery)
            finally:
                wal.close()

    async def _replay(self, logged: list[Input], wal: Wal, nursery: trio.Nursery) -> None:
        """Begin the height after the head, from the log where a crash interrupted it."""
        effects = self._core.handle(self._make_start())
        answered: set[Hashable] = set()
        for event in logged:
            if self._is_own(event):
                answered.add(_get_answer_key(event))
            effects += self._core.handle(event)
        for vote in self._parts.signer.list_votes(self._head.height + 1) if self._parts.signer else ():
            lost = VoteReceived(vote)
            if _get_answer_key(lost) not in answered:
                logger.warning("height %d: a vote of round %d is not in the log", vote.height, vote.round)
                self._local.append(lost)
        if logged:
            logger.info("height %d: going on after %d logged inputs", self._head.height + 1, len(logged))
        for effect in effects:
            if _get_effect_key(effect) not in answered:
                await self._perform(effect, wal, nursery)

    def _is_own(self, event: Input) -> bool:
        """Whether an input answers an effect of this node; other validators' messages do not."""
        own = self._parts.signer.public_key if self._parts.signer else None
        match event:
            case ProposalReceived():
                return event.proposal.proposer == own
            case VoteReceived():
                return event.vote.validator == own
            case _:
                return True

    async def _start_height(self, wal: Wal, nursery: trio.Nursery) -> None:
        for effect in self._core.handle(self._make_start()):
            await self._perform(effect, wal, nursery)
        self._local.extend(self._held)
        self._held.clear()

    def _make_start(self) -> StartHeight:
        head, signer = self._head, self._parts.signer
        return StartHeight(head.height + 1, head.validators, head.rotation, signer.public_key if signer else None)

    async def _decide_height(self, height: int, wal: Wal, nursery: trio.Nursery) -> None:
        """Handle inputs until `height` is final."""
        while self._head.height < height:
            event = self._local.popleft() if self._local else await self._delivered.receive()
            if self._hold(event):
                continue
            wal.append(encode_input(height, event))
            for effect in self._core.handle(event):
                await self._perform(effect, wal, nursery)

    async def _wait_until(self, time_s: float, wal: Wal, nursery: trio.Nursery) -> None:
        """Blocks come every interval, however fast they are decided. Late votes may still prove an offence."""
        while True:
            with trio.move_on_at(time_s) as waiting:
                event = await self._delivered.receive()
            if waiting.cancelled_caught:
                return
            if not self._hold(event):
                for effect in self._core.handle(event):
                    await self._perform(effect, wal, nursery)

    def _hold(self, event: Input) -> bool:
        """Keep a message of the next height until it starts: others may be there before us."""
        if get_height(event) != self._core.height + 1:
            return False
        if len(self._held) < INPUTS_MAX:
            self._held.append(event)
        return True

    async def _perform(self, effect: Effect, wal: Wal, nursery: trio.Nursery) -> None:
        match effect:
            case BuildBlock():
                await self._build(effect)
            case ValidateBlock():
                await self._validate(effect)
            case Propose():
                wal.sync()
                self._propose(effect)
            case CastVote():
                wal.sync()
                self._cast_vote(effect)
            case ScheduleTimeout():
                nursery.start_soon(self._elapse, effect)
            case Decide():
                await self._finalize(effect, wal)
            case ReportEvidence():
                self._evidence[effect.evidence.first.validator] = effect.evidence

    async def _build(self, effect: BuildBlock) -> None:
        parts, head = self._parts, self._head
        assert parts.signer is not None, "only a validator is asked to build"
        proposer = Proposer(parts.signer.public_key, parts.signer.prove_beacon_seed())
        candidates = tuple(parts.pool.select())
        now_ms = parts.now_ms()
        evidence = self._select_evidence(now_ms)
        made = await trio.to_thread.run_sync(
            build_block, parts.store, head, proposer, now_ms, evidence, candidates, parts.pool.is_signed
        )
        self._candidates[made.block_hash] = made
        self._local.append(BlockBuilt(effect.height, effect.round, made.block))

    def _select_evidence(self, now_ms: int) -> tuple[DuplicateVote, ...]:
        """What still convicts somebody. What was included, by whomever, or has expired is forgotten."""
        store, head = self._parts.store, self._head
        time_ms = max(now_ms, head.time_ms + 1)
        for validator, evidence in list(self._evidence.items()):
            try:
                validate_evidence(store, evidence, store.genesis_hash, head.height + 1, time_ms)
            except BlockError as error:
                logger.info("evidence against %s dropped: %s", validator.hex()[:12], error)
                del self._evidence[validator]
        return tuple(self._evidence.values())[:BLOCK_INHERENTS_MAX]

    async def _validate(self, effect: ValidateBlock) -> None:
        block_hash = compute_block_hash(effect.block.header)
        try:
            await self._get_candidate(effect.block.header.height, block_hash, effect)
            is_valid = True
        except BlockInvalid as error:
            logger.warning("block %s is invalid: %s", block_hash.hex()[:12], error)
            is_valid = False
        self._local.append(BlockValidated(block_hash, is_valid))

    async def _get_candidate(self, height: int, block_hash: bytes, made: ValidateBlock | Decide) -> ExecutedCandidate:
        """The executed block: from memory when we built or checked it, else executed now. Raises BlockInvalid."""
        found = self._candidates.get(block_hash)
        if found is None:
            parts = self._parts
            assert height == self._head.height + 1, "the core decides one height after the other"
            await self._check_signatures(made.block)
            found = await trio.to_thread.run_sync(
                validate_block, parts.store, self._head, made.block, parts.now_ms(), parts.pool.is_signed
            )
            self._candidates[block_hash] = found
        return found

    async def _check_signatures(self, block: Block) -> None:
        """All of a received block's at once, on every core; a bad one is found again when the block is executed."""
        pool = self._parts.pool
        unseen = await trio.to_thread.run_sync(pool.list_unseen, block.transactions)
        for (key, _), is_valid in zip(
            unseen, await self._parts.signatures.check([job for _, job in unseen]), strict=True
        ):
            if is_valid:
                pool.remember_signed(key)

    def _propose(self, effect: Propose) -> None:
        parts = self._parts
        assert parts.signer is not None, "only a validator proposes"
        payload = compute_proposal_bytes(
            parts.store.genesis_hash, effect.height, effect.round, effect.valid_round, effect.block
        )
        try:
            signature = parts.signer.sign(effect.height, effect.round, Slot.PROPOSAL, payload)
        except SignRefused as error:
            logger.warning("no proposal at height %d, round %d: %s", effect.height, effect.round, error)
            return
        key = parts.signer.public_key
        proposal = Proposal(effect.height, effect.round, effect.valid_round, effect.block, key, signature)
        parts.gossip.broadcast_proposal(proposal)
        self._local.append(ProposalReceived(proposal))

    def _cast_vote(self, effect: CastVote) -> None:
        parts = self._parts
        assert parts.signer is not None, "only a validator votes"
        slot = Slot.PREVOTE if effect.kind is VoteKind.PREVOTE else Slot.PRECOMMIT
        payload = compute_vote_bytes(
            parts.store.genesis_hash, effect.kind, effect.height, effect.round, effect.block_hash
        )
        try:
            signature = parts.signer.sign(effect.height, effect.round, slot, payload)
        except SignRefused as error:
            logger.warning("no vote at height %d, round %d: %s", effect.height, effect.round, error)
            return
        key = parts.signer.public_key
        vote = Vote(effect.kind, effect.height, effect.round, effect.block_hash, key, signature)
        parts.gossip.broadcast_vote(vote)
        self._local.append(VoteReceived(vote))

    async def _elapse(self, effect: ScheduleTimeout) -> None:
        await trio.sleep(effect.delay_ms / 1000)
        if effect.timeout.height == self._head.height + 1:
            self._deliver.send_nowait(TimeoutElapsed(effect.timeout))

    async def _finalize(self, effect: Decide, wal: Wal) -> None:
        """One synced batch, and the log of the height is history."""
        parts, commit = self._parts, effect.commit
        done = await self._get_candidate(effect.height, commit.block_hash, effect)
        finalized = finalize_block(parts.store, self._head, done, commit)
        await trio.to_thread.run_sync(parts.store.commit_block, finalized)
        wal.truncate()
        self._head = finalized.head
        self._candidates.clear()
        self._local.clear()
        parts.pool.advance(finalized)
        parts.bus.publish(finalized)
        count = len(effect.block.transactions)
        logger.info("block %d %s: %d transactions", effect.height, done.block_hash.hex()[:12], count)


def get_height(event: Input) -> int | None:
    """The height an input belongs to; None where it does not say."""
    match event:
        case ProposalReceived():
            return event.proposal.height
        case VoteReceived():
            return event.vote.height
        case TimeoutElapsed():
            return event.timeout.height
        case BlockBuilt() | StartHeight():
            return event.height
        case BlockValidated():
            return None


def _get_effect_key(effect: Effect) -> Hashable:
    """What identifies an effect, equal to the key of the input that answers it; None for effects nothing answers."""
    match effect:
        case BuildBlock():
            return ("built", effect.height, effect.round)
        case Propose():
            return ("proposed", effect.height, effect.round)
        case ValidateBlock():
            return ("validated", compute_block_hash(effect.block.header))
        case CastVote():
            return ("voted", int(effect.kind), effect.height, effect.round)
        case ScheduleTimeout():
            return ("elapsed", effect.timeout)
        case _:
            return None


def _get_answer_key(event: Input) -> Hashable:
    match event:
        case BlockBuilt():
            return ("built", event.height, event.round)
        case ProposalReceived():
            return ("proposed", event.proposal.height, event.proposal.round)
        case BlockValidated():
            return ("validated", event.block_hash)
        case VoteReceived():
            return ("voted", event.vote.kind, event.vote.height, event.vote.round)
        case TimeoutElapsed():
            return ("elapsed", event.timeout)
        case _:
            return ()
