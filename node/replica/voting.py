"""Drives the BFT core: logs each input, hands it over, carries out the effects in order. Knows no peers.

Every input is in the write-ahead log before it is handled, and the log is synced before anything is signed. After a
crash the inputs of the unfinished height are handled again: signing then gives the identical signatures, and effects
whose answer is not in the log are carried out as if for the first time.
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
from node.replica.wal import Wal
from node.replica.wal_records import encode_input
from node.replica.world import World
from node.signer.signer import SignerUnreachable, SignRefused, VoteSigner, VoteSlot
from proto_specs.types.chain import (
    Block,
    Commit,
    Evidence,
    Proposal,
    Vote,
    VoteKind,
    compute_block_hash,
    compute_proposal_bytes,
    compute_vote_bytes,
)
from proto_specs.types.gossip import FinalBlock, split_proposal

logger = logging.getLogger("myelin.consensus")

SIGNER_RETRY_MS = 500
"""A vote is asked for again so often while whoever holds the key does not answer."""
INPUTS_MAX = 4_096
"""Messages that wait for the core, and messages kept for the next height. Own timers and answers always have room."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """A finalized block of the next height, its commit checked: decided by the others without us."""

    final: FinalBlock
    then: Callable[[Reason], None]


@dataclass(frozen=True, slots=True)
class Wake:
    """The rest after a height is over."""

    height: int


_Own = Input | Adopt | Wake


class Voting:
    """Consensus from one height to the next. Synchronous; `begin` sets it off."""

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
        self._genesis = genesis
        self._tip = tip
        self._evidence = evidence
        self._signer = signer
        self._wal = wal
        self._world = world
        self._block_interval_ms = block_interval_ms
        self._started_ms = 0
        self._is_running = False
        self._is_silent = False
        self._has_stood_down = False
        self._is_busy = False
        self._is_resting = False
        self._effects: deque[Effect] = deque()
        self._unsaid: list[Propose | CastVote] = []
        self._local: deque[_Own] = deque()
        self._waiting: deque[Input] = deque()
        self._held: list[Input] = []

    # From outside

    def begin(self, logged: list[Input]) -> None:
        """Begin the height after the head, with what the log has of it."""
        self._is_running = True
        self.last_commit.begin(self._tip.commit, self._tip.head.deciders)
        self._replay(logged)
        self._pump()

    @property
    def is_running(self) -> bool:
        """Whether it has begun."""
        return self._is_running

    @property
    def is_deciding(self) -> bool:
        """Whether a height is under way, rather than waited for or being written."""
        return self._is_running and not self.core.is_decided and self.core.height == self._tip.head.height + 1

    def receive(self, event: ProposalReceived | VoteReceived) -> bool:
        """A checked message of this height or the next. False when too many wait, or it has not begun."""
        if not self._is_running or len(self._waiting) >= INPUTS_MAX:
            return False
        self._waiting.append(event)
        self._pump()
        return True

    def set_silent(self, is_silent: bool) -> None:
        """Sign nothing while it has fallen behind. What it would have said of this height is said when that is over:
        to the others it is late, and they may need it.
        """
        if self._is_silent and not is_silent:
            self._effects.extend(one for one in self._unsaid if one.height == self.core.height)
            self._unsaid.clear()
        self._is_silent = is_silent
        self._pump()

    def stand_down(self, vote: Vote) -> None:
        """Sign nothing more for as long as this process runs: somebody else signs with the key. Says so once."""
        if not self._has_stood_down:
            self._has_stood_down = True
            logger.error(
                "our key signed a vote of height %d, round %d that this signer did not make: another process has the "
                "key, or the signer's history is an old copy. Nothing more is signed. Stop the other process, bring "
                "its history here (`myelin signer export`, `import`) and start again",
                vote.height,
                vote.round,
            )

    def adopt(self, final: FinalBlock, then: Callable[[Reason], None]) -> None:
        """Take a block that others decided; `then` says whether it could not be (None: it is the head, or was)."""
        self._push(Adopt(final, then))

    def report(self, evidence: Evidence) -> None:
        """Keep what somebody signed twice for the next block, and tell the others."""
        if self._evidence.add(evidence, self._world.read_clock_ms()) is Acceptance.ACCEPT:
            self._world.publish(evidence)

    # The loop: effects before inputs, own answers before messages, one job at a time

    def _push(self, event: _Own) -> None:
        self._local.append(event)
        self._pump()

    def _pump(self) -> None:
        while not self._is_busy:
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
            self.last_commit.add(event.vote)  # passed over unless it is a precommit for the head
        if isinstance(event, Adopt):
            self._adopt(event)
        elif isinstance(event, Wake):
            if self._is_resting and self._tip.head.height == event.height:
                self._start_height()
        elif get_height(event) == self.core.height + 1:
            if len(self._held) < INPUTS_MAX:  # others may be there before us
                self._held.append(event)
        elif self.is_deciding or self.core.is_decided:  # else its height was adopted: there is nothing to decide
            if not self.core.is_decided:  # afterwards votes may prove an offence, and nothing else
                self._wal.append(encode_input(self.core.height, event))
            self._effects.extend(self.core.handle(event))

    def _work(self) -> Callable[..., None]:
        """Nothing else happens until the function returned here is called."""
        self._is_busy = True

        def resume(step: Callable[[], None]) -> None:
            self._is_busy = False
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
        self._is_resting = False
        self._unsaid.clear()
        self._effects.extend(self.core.handle(self._make_start()))
        self._local.extend(self._held)
        self._held.clear()

    def _make_start(self) -> StartHeight:
        head, signer = self._tip.head, self._signer
        own = None if signer is None else signer.public_key
        self._started_ms = self._world.read_monotonic_ms()
        return StartHeight(head.height + 1, head.validators, head.rotation, own)

    def _rest(self) -> None:
        """Blocks come every interval, however fast they are decided.

        The interval runs from our own start or from the block's time, whichever ends sooner: by the first nobody can
        hold us up, by the second those who started late do not stay late for ever.
        """
        self._wal.truncate()
        self._local = deque(one for one in self._local if isinstance(one, Adopt))
        self._is_resting = True
        by_start = self._started_ms + self._block_interval_ms - self._world.read_monotonic_ms()
        by_block = self._tip.head.time_ms + self._block_interval_ms - self._world.read_clock_ms()
        self._world.set_timer(max(0, min(by_start, by_block)), partial(self._push, Wake(self._tip.head.height)))

    def _adopt(self, event: Adopt) -> None:
        block, commit = event.final.block, event.final.commit
        if block.header.height != self._tip.head.height + 1:
            event.then(None)
            return
        resume = self._work()
        self._begin_last_commit(commit)

        def done(reason: Reason) -> None:
            def step() -> None:
                if reason is None:
                    self._effects.clear()
                    if self._is_running:
                        self._rest()
                event.then(reason)

            resume(step)

        self._tip.finalize(block, commit, done)

    def _begin_last_commit(self, commit: Commit) -> None:
        """Of the block that is about to become the head, with the precommits for it that are here, ours included."""
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
            case Propose() | CastVote() if self._is_silent:
                self._unsaid.append(effect)
            case Propose():
                self._wal.sync()
                self._propose(effect)
            case CastVote():
                self._wal.sync()
                self._cast_vote(effect)
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
        resume = self._work()

        def done(made: ExecutedCandidate | None) -> None:
            def step() -> None:
                if made is not None:
                    self._local.append(BlockBuilt(effect.height, effect.round, made.block))

            resume(step)

        self._tip.build(proposer, evidence, self.last_commit.get(), done)

    def _validate(self, block: Block) -> None:
        block_hash = compute_block_hash(block.header)
        resume = self._work()

        def done(reason: Reason) -> None:
            if reason is not None:
                logger.warning("block %s is invalid: %s", block_hash.hex()[:12], reason)
            resume(lambda: self._local.append(BlockValidated(block_hash, reason is None)))

        self._tip.validate(block, done)

    def _propose(self, effect: Propose) -> None:
        payload = compute_proposal_bytes(self._genesis, effect.height, effect.round, effect.valid_round, effect.block)
        try:
            signature = self._sign(effect.height, effect.round, VoteSlot.PROPOSAL, payload)
        except SignerUnreachable as error:  # the round's timeout passes over it
            logger.warning("no proposal at height %d, round %d: %s", effect.height, effect.round, error)
            return
        if signature is None or self._signer is None:
            return
        key = self._signer.public_key
        proposal = Proposal(effect.height, effect.round, effect.valid_round, effect.block, key, signature)
        for part in split_proposal(proposal):
            self._world.publish(part)
        self._local.append(ProposalReceived(proposal))

    def _cast_vote(self, effect: CastVote) -> None:
        slot = VoteSlot.PREVOTE if effect.kind is VoteKind.PREVOTE else VoteSlot.PRECOMMIT
        payload = compute_vote_bytes(self._genesis, effect.kind, effect.height, effect.round, effect.block_hash)
        try:
            signature = self._sign(effect.height, effect.round, slot, payload)
        except SignerUnreachable as error:
            logger.warning("no %s at height %d, round %d: %s", slot.name.lower(), effect.height, effect.round, error)
            self._world.set_timer(SIGNER_RETRY_MS, partial(self._cast_again, effect))
            return
        if signature is None or self._signer is None:
            return
        key = self._signer.public_key
        vote = Vote(effect.kind, effect.height, effect.round, effect.block_hash, key, signature)
        self._world.publish(vote)
        self._local.append(VoteReceived(vote))

    def _cast_again(self, effect: CastVote) -> None:
        """A vote that was not signed is asked for again: without votes no timeout would move the round on."""
        if effect.height == self.core.height and not self.core.is_decided:
            self._effects.append(effect)
            self._pump()

    def _sign(self, height: int, round_: int, slot: VoteSlot, payload: bytes) -> bytes | None:
        assert self._signer is not None, "only a validator signs"
        if self._has_stood_down:
            return None
        try:
            return self._signer.sign(height, round_, slot, payload)
        except SignRefused as error:
            logger.warning("no %s at height %d, round %d: %s", slot.name.lower(), height, round_, error)
            return None

    def _elapse(self, event: TimeoutElapsed) -> None:
        if event.timeout.height == self.core.height and not self.core.is_decided:
            self._push(event)

    def _finalize(self, effect: Decide) -> None:
        resume = self._work()
        self._begin_last_commit(effect.commit)

        def done(reason: Reason) -> None:
            assert reason is None, f"the core decided a block that is invalid: {reason}"
            resume(self._rest)

        self._tip.finalize(effect.block, effect.commit, done)
