"""Drives the BFT core: logs each input, passes it on, carries out the effects in order. Knows no peers.

Every input is in the write-ahead log before it is handled, and the log is synced before anything is signed. After a
crash the inputs of the unfinished height are handled again: signing then gives the identical signatures, and effects
without an answer in the log are carried out as if for the first time.

The phases in `voting_phases.py` say whether a height is being decided, and whether a job is under way.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

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
from node.chain.blocks import ExecutedCandidate, Proposer
from node.p2p.acceptance import Acceptance
from node.replica.answers import get_answer_key, get_effect_key, get_height
from node.replica.evidence import EvidencePool
from node.replica.last_commit import LastCommit
from node.replica.tip import ChainTip, Reason
from node.replica.voting_messages import OwnMessages
from node.replica.voting_phases import (
    HEIGHT_TABLE,
    WORK_TABLE,
    HeightEvent,
    HeightPhase,
    WorkEvent,
    WorkPhase,
    advance_voting,
)
from node.replica.wal import Wal
from node.replica.wal_records import encode_input
from node.replica.world import World
from node.signer.signer import VoteSigner
from proto_specs.types.chain import Block, Commit, Evidence, Vote, compute_block_hash
from proto_specs.types.gossip import FinalBlock

logger = logging.getLogger("myelin.consensus")

INPUTS_MAX = 4_096
"""The most messages that wait for the core or for the next height. Own timers and answers always fit."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """A finalized block of the next height, its commit checked: the other validators decided it without this node."""

    final: FinalBlock
    then: Callable[[Reason], None]


@dataclass(frozen=True, slots=True)
class Wake:
    """The end of the rest after a height."""

    height: int


_Own = Input | Adopt | Wake


class Voting:
    """Consensus from each height to the next. Synchronous; `begin` starts it."""

    def __init__(
        self,
        genesis: bytes,
        tip: ChainTip,
        evidence: EvidencePool,
        signer: VoteSigner | None,
        wal: Wal,
        world: World,
        timeouts: Timeouts,
        block_interval_ms: int,
    ) -> None:
        self.core = BftCore(timeouts)
        self.last_commit = LastCommit()
        self._tip = tip
        self._evidence = evidence
        self._signer = signer
        self._wal = wal
        self._world = world
        self._block_interval_ms = block_interval_ms
        self._started_ms = 0
        self._messages = OwnMessages(genesis, signer, wal, world, self._cast_again)
        self._phase = HeightPhase.UNBEGUN
        self._work = WorkPhase.FREE
        self._effects: deque[Effect] = deque()
        self._local: deque[_Own] = deque()
        self._waiting: deque[Input] = deque()
        self._held: list[Input] = []

    # Calls from outside

    def begin(self, logged: list[Input]) -> None:
        """Begin the height after the head, with the inputs that the log holds of it."""
        self._advance(HeightEvent.BEGUN)
        self.last_commit.begin(self._tip.commit, self._tip.head.deciders)
        self._replay(logged)
        self._pump()

    @property
    def is_running(self) -> bool:
        """Whether voting has begun."""
        return self._phase is not HeightPhase.UNBEGUN

    @property
    def is_deciding(self) -> bool:
        """Whether a height is being decided; false between two heights and while a block is being written."""
        is_open = self._phase is HeightPhase.DECIDING and not self.core.is_decided
        return is_open and self.core.height == self._tip.head.height + 1

    def receive(self, event: ProposalReceived | VoteReceived) -> bool:
        """Take a checked message of this height or the next. False when too many wait, or voting has not begun."""
        if len(self._waiting) >= INPUTS_MAX or not self._advance(HeightEvent.MESSAGE):
            return False
        self._waiting.append(event)
        self._pump()
        return True

    def set_silent(self, is_silent: bool) -> None:
        """Sign nothing while this node has fallen behind.

        Its votes of the current height are cast once it has caught up: they are late, but the other validators may need
        them.
        """
        if is_silent:
            self._messages.fall_behind()
        else:
            self._effects.extend(one for one in self._messages.catch_up() if one.height == self.core.height)
        self._pump()

    def stand_down(self, vote: Vote) -> None:
        """Sign nothing more for the life of this process: another process signed `vote` with our key. Logged once."""
        self._messages.stand_down(vote)

    def adopt(self, final: FinalBlock, then: Callable[[Reason], None]) -> None:
        """Take a block that the others decided. `then` gets None, or the reason why the block is invalid."""
        self._push(Adopt(final, then))

    def report(self, evidence: Evidence) -> None:
        """Keep evidence of double signing for the next block, and publish it."""
        if self._evidence.add(evidence, self._world.read_clock_ms()) is Acceptance.ACCEPT:
            self._world.publish(evidence)

    # The loop: effects before inputs, own answers before messages, one job at a time

    def _push(self, event: _Own) -> None:
        self._local.append(event)
        self._pump()

    def _pump(self) -> None:
        while self._work is WorkPhase.FREE:
            if self._effects:
                self._perform(self._effects.popleft())
            elif self._local:
                self._take(self._local.popleft())
            elif self._waiting:
                self._take(self._waiting.popleft())
            else:
                return

    def _take(self, event: _Own) -> None:
        if isinstance(event, VoteReceived):
            self.last_commit.add(event.vote)  # ignores all but precommits for the head
        if isinstance(event, Adopt):
            self._adopt(event)
        elif isinstance(event, Wake):
            if self._tip.head.height == event.height:  # else a later block was adopted meanwhile
                self._start_height()
        elif get_height(event) == self.core.height + 1:
            if len(self._held) < INPUTS_MAX:  # other validators may start the next height before this node
                self._held.append(event)
        elif self.is_deciding or self.core.is_decided:  # else its height was adopted: there is nothing to decide
            if not self.core.is_decided:  # after the decision votes may prove an offence, and nothing else
                self._wal.append(encode_input(self.core.height, event))
            self._effects.extend(self.core.handle(event))

    def _advance(self, event: HeightEvent) -> bool:
        """Move to the phase in the table. False when the table ignores the event."""
        found = advance_voting(HEIGHT_TABLE, self._phase, event)
        self._phase = found or self._phase
        return found is not None

    def _advance_work(self, event: WorkEvent) -> None:
        self._work = advance_voting(WORK_TABLE, self._work, event) or self._work

    def _start_job(self) -> Callable[..., None]:
        """Begin a job. Nothing else happens until the returned function is called."""
        self._advance_work(WorkEvent.STARTED)

        def resume(step: Callable[[], None]) -> None:
            self._advance_work(WorkEvent.ENDED)
            step()
            self._pump()

        return resume

    # Heights

    def _replay(self, logged: list[Input]) -> None:
        effects = self.core.handle(self._make_start())
        answered: set[Hashable] = set()
        for event in logged:
            if self._is_own(event):
                answered.add(get_answer_key(event))
            effects += self.core.handle(event)
        for vote in self._signer.list_votes(self.core.height) if self._signer else ():
            lost = VoteReceived(vote)
            if get_answer_key(lost) not in answered:
                logger.warning("height %d: a vote of round %d is not in the log", vote.height, vote.round)
                self._local.append(lost)
        if logged:
            logger.info("height %d: going on after %d logged inputs", self.core.height, len(logged))
        self._effects.extend(one for one in effects if get_effect_key(one) not in answered)

    def _is_own(self, event: Input) -> bool:
        """Whether an input answers an effect of this node; other validators' messages do not."""
        own = self._signer.public_key if self._signer else None
        match event:
            case ProposalReceived():
                return event.proposal.proposer == own
            case VoteReceived():
                return event.vote.validator == own
            case _:
                return True

    def _start_height(self) -> None:
        self._advance(HeightEvent.WOKEN)
        self._messages.forget_kept()
        self._effects.extend(self.core.handle(self._make_start()))
        self._local.extend(self._held)
        self._held.clear()

    def _make_start(self) -> StartHeight:
        head, signer = self._tip.head, self._signer
        own = None if signer is None else signer.public_key
        self._started_ms = self._world.read_monotonic_ms()
        return StartHeight(head.height + 1, head.validators, head.rotation, own)

    def _rest(self) -> None:
        """Wait for the next height: a block comes every interval, however fast it is decided.

        The interval runs from this node's own start of the height or from the block's time, whichever ends sooner. The
        first keeps a block with a late time from delaying this node; the second lets a node that started late catch up.
        """
        self._wal.truncate()
        self._local = deque(one for one in self._local if isinstance(one, Adopt))
        by_start = self._started_ms + self._block_interval_ms - self._world.read_monotonic_ms()
        by_block = self._tip.head.time_ms + self._block_interval_ms - self._world.read_clock_ms()
        self._world.set_timer(max(0, min(by_start, by_block)), partial(self._push, Wake(self._tip.head.height)))

    def _adopt(self, event: Adopt) -> None:
        block, commit = event.final.block, event.final.commit
        if block.header.height != self._tip.head.height + 1:
            event.then(None)
            return
        resume = self._start_job()
        self._begin_last_commit(commit)

        def done(reason: Reason) -> None:
            def step() -> None:
                if reason is None:
                    self._effects.clear()
                    self._advance(HeightEvent.ADOPTED)
                    if self._phase is HeightPhase.RESTING:
                        self._rest()
                event.then(reason)

            resume(step)

        self._tip.finalize(block, commit, done)

    def _begin_last_commit(self, commit: Commit) -> None:
        """Begin the commit of the block that is about to become the head, with all precommits for it, ours included."""
        self.last_commit.begin(commit, self._tip.head.validators)
        counted = self.core.get_votes(commit.round) if self.core.height == commit.height else ()
        own = [event.vote for event in self._local if isinstance(event, VoteReceived)]
        for vote in (*counted, *own):
            self.last_commit.add(vote)

    # Effects

    def _perform(self, effect: Effect) -> None:
        match effect:
            case BuildBlock():
                self._build(effect)
            case ValidateBlock():
                self._validate(effect.block)
            case Propose() | CastVote():
                answer = self._messages.say(effect)
                if answer is not None:
                    self._local.append(answer)
            case ScheduleTimeout():
                self._world.set_timer(effect.delay_ms, partial(self._elapse, TimeoutElapsed(effect.timeout)))
            case Decide():
                self._finalize(effect)
            case ReportEvidence():
                self.report(effect.evidence)

    def _build(self, effect: BuildBlock) -> None:
        signer = self._signer
        assert signer is not None, "only a validator is asked to build"
        proposer = Proposer(signer.public_key, signer.prove_beacon)
        evidence = self._evidence.select(self._world.read_clock_ms())
        resume = self._start_job()

        def done(made: ExecutedCandidate | None) -> None:
            def step() -> None:
                if made is not None:
                    self._local.append(BlockBuilt(effect.height, effect.round, made.block))

            resume(step)

        self._tip.build(proposer, evidence, self.last_commit.get(), done)

    def _validate(self, block: Block) -> None:
        block_hash = compute_block_hash(block.header)
        resume = self._start_job()

        def done(reason: Reason) -> None:
            if reason is not None:
                logger.warning("block %s is invalid: %s", block_hash.hex()[:12], reason)
            resume(lambda: self._local.append(BlockValidated(block_hash, reason is None)))

        self._tip.validate(block, done)

    def _cast_again(self, effect: CastVote) -> None:
        """Ask again for a vote that was not signed: without votes no timeout would advance the round."""
        if effect.height == self.core.height and not self.core.is_decided:
            self._effects.append(effect)
            self._pump()

    def _elapse(self, event: TimeoutElapsed) -> None:
        if event.timeout.height == self.core.height and not self.core.is_decided:
            self._push(event)

    def _finalize(self, effect: Decide) -> None:
        resume = self._start_job()
        self._begin_last_commit(effect.commit)

        def step() -> None:
            self._advance(HeightEvent.DECIDED)
            self._rest()

        def done(reason: Reason) -> None:
            assert reason is None, f"the core decided a block that is invalid: {reason}"
            resume(step)

        self._tip.finalize(effect.block, effect.commit, done)
