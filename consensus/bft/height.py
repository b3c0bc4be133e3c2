"""Algorithm 1 of arXiv 1807.04938 for one height. Methods carry the paper's line numbers; state names are the paper's.

Where it goes beyond the paper, the method says so: the shell is asked for validity and for blocks and answers later,
the proposer has a propose timeout too, and a polka of an earlier round still updates the valid value.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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
from consensus.bft.evidence import do_proposals_differ, make_duplicate_proposal
from consensus.bft.inputs import StartHeight
from consensus.bft.proposal import is_block_intact, is_proposal_well_formed
from consensus.bft.tally import DistantVotes, HeightTally
from consensus.bft.timeouts import Step, Timeout, Timeouts
from consensus.bft.validators import PowerTable
from proto_specs import limits
from proto_specs.types.chain import (
    Block,
    Commit,
    Proposal,
    ProposalHead,
    Vote,
    VoteKind,
    compute_block_hash,
    get_proposal_head,
)


@dataclass(frozen=True, slots=True)
class RoundBlock:
    """A block and the round in which it had a polka: (lockedRound, lockedValue) or (validRound, validValue)."""

    round: int
    block_hash: bytes


class HeightProcess:
    """Process p at height h_p. Each event returns the effects of all rules it enables."""

    def __init__(self, start: StartHeight, timeouts: Timeouts) -> None:
        assert start.rotation.validators == start.validators, "the rotation belongs to another validator set"
        self.height = start.height
        self.round = 0
        self.step = Step.PROPOSE
        self.is_decided = False
        self._timeouts = timeouts
        self._own_key = start.own_key
        self._table = PowerTable(start.validators)
        self._next_rotation = start.rotation
        self._proposers: list[bytes] = []
        self._tally = HeightTally(self._table)
        self._distant = DistantVotes(self._table)
        self._proposals: dict[int, tuple[Proposal, bytes]] = {}
        self._misshapen: dict[int, ProposalHead] = {}
        self._accused_rounds: set[int] = set()
        self._blocks: dict[bytes, Block] = {}
        self._validity: dict[bytes, bool | None] = {}
        self._locked: RoundBlock | None = None
        self._valid: RoundBlock | None = None
        self._is_build_awaited = False
        self._is_prevote_timeout_set = False
        self._is_precommit_timeout_set = False
        self._effects: list[Effect] = []
        # In order of preference. A decision makes all other messages needless, except the votes due before it: without
        # them a slow validator would seem absent. A vote that can be cast makes its timeout needless.
        self._rules: tuple[Callable[[], bool], ...] = (
            self._prevote_new_proposal,
            self._prevote_repeated_proposal,
            self._adopt_polka,
            self._decide,
            self._skip_round,
            self._precommit_nil,
            self._schedule_prevote_timeout,
            self._schedule_precommit_timeout,
        )

    # Events

    def start(self) -> list[Effect]:
        """Line 10: StartRound(0)."""
        self._start_round(0)
        return self._run_rules()

    def receive_proposal(self, proposal: Proposal) -> list[Effect]:
        """Keeps the first well-formed proposal of each round that is not too far ahead.

        A second proposal for the same round is evidence and does not count as a proposal. If a quorum stands behind its
        block (its voters saw the second proposal first), the block is kept for lines 36 and 49. After the decision
        only the evidence matters.
        """
        if proposal.height != self.height or proposal.round > self.round + limits.ROUNDS_AHEAD_MAX:
            return []
        if proposal.proposer != self.get_proposer(proposal.round):
            return []
        block_hash = compute_block_hash(proposal.block.header)
        self._compare_with_first(proposal, block_hash)
        is_second = proposal.round in self._proposals
        if self.is_decided or (is_second and not self._tally.is_backed(block_hash)):
            return self._run_rules()
        is_known = proposal.block == self._blocks.get(block_hash)
        if is_proposal_well_formed(proposal) and (is_known or is_block_intact(proposal.block)):
            self._blocks.setdefault(block_hash, proposal.block)
            if not is_second:
                self._proposals[proposal.round] = (proposal, block_hash)
        elif not is_second:
            self._misshapen.setdefault(proposal.round, get_proposal_head(proposal))
        return self._run_rules()

    def receive_vote(self, vote: Vote) -> list[Effect]:
        """Counts a member's vote. After the decision a vote only matters as possible evidence."""
        if vote.height != self.height or vote.validator not in self._table or vote.round > limits.ROUND_MAX:
            return []
        if vote.kind not in (VoteKind.PREVOTE, VoteKind.PRECOMMIT):
            return []
        if vote.round > self.round + limits.ROUNDS_AHEAD_MAX:
            self._distant.add(vote)
        else:
            self._count(vote)
        return self._run_rules()

    def learn_validity(self, block_hash: bytes, is_valid: bool) -> list[Effect]:
        """valid(v) is now known."""
        if self._validity.get(block_hash, is_valid) is None:
            self._validity[block_hash] = is_valid
        return self._run_rules()

    def take_built(self, height: int, round_: int, block: Block) -> list[Effect]:
        """Lines 18-19: getValue() has answered. The answer is ignored when the round or its propose timeout is over."""
        if (height, round_) == (self.height, self.round) and self._is_build_awaited and self.step == Step.PROPOSE:
            assert block.header.height == self.height, f"built for height {block.header.height}, not {self.height}"
            assert block.header.proposer == self._own_key, "built under another proposer's key"
            self._is_build_awaited = False
            self._blocks.setdefault(compute_block_hash(block.header), block)
            self._emit(Propose(self.height, self.round, None, block))
        return self._run_rules()

    def elapse(self, timeout: Timeout) -> list[Effect]:
        """Lines 57-67: OnTimeoutPropose, OnTimeoutPrevote, OnTimeoutPrecommit."""
        if (timeout.height, timeout.round) != (self.height, self.round) or self.is_decided:
            return []
        match timeout.step:
            case Step.PROPOSE if self.step == Step.PROPOSE:
                self._cast(VoteKind.PREVOTE, None)
            case Step.PREVOTE if self.step == Step.PREVOTE:
                self._cast(VoteKind.PRECOMMIT, None)
            case Step.PRECOMMIT:
                self._start_round(self.round + 1)
        return self._run_rules()

    # Questions

    def get_proposer(self, round_: int) -> bytes:
        """proposer(h_p, round)."""
        while len(self._proposers) <= round_:
            self._proposers.append(self._next_rotation.get_proposer())
            self._next_rotation = self._next_rotation.advance()
        return self._proposers[round_]

    def get_proposal(self, round_: int) -> Proposal | None:
        """The proposal held for a round."""
        found = self._proposals.get(round_)
        return None if found is None else found[0]

    def get_votes(self, round_: int) -> tuple[Vote, ...]:
        """The votes counted in a round."""
        return (*self._tally.get_prevotes(round_).get_votes(), *self._tally.get_precommits(round_).get_votes())

    def get_gossip_rounds(self) -> tuple[int, ...]:
        """Rounds whose messages others may still need, rising."""
        rounds = {self.round, max(self.round - 1, 0), *self._tally.decisions}
        if self._valid is not None:
            rounds.add(self._valid.round)
        return tuple(sorted(rounds))

    # Rules: each returns whether it fired, and fires again only after an event or another rule

    def _run_rules(self) -> list[Effect]:
        while not self.is_decided and any(rule() for rule in self._rules):
            pass
        effects, self._effects = self._effects, []
        return effects

    def _start_round(self, round_: int) -> None:
        """Lines 11-21. Line 21 also holds for the proposer here, because its block or signature may never come."""
        self.round = round_
        self.step = Step.PROPOSE
        self._is_build_awaited = False
        self._is_prevote_timeout_set = False
        self._is_precommit_timeout_set = False
        for vote in self._distant.take_until(round_ + limits.ROUNDS_AHEAD_MAX):
            self._count(vote)
        if self.get_proposer(round_) == self._own_key:
            if self._valid is not None:
                block = self._blocks[self._valid.block_hash]
                self._emit(Propose(self.height, round_, self._valid.round, block))
            else:
                self._is_build_awaited = True
                self._emit(BuildBlock(self.height, round_))
        self._schedule(Step.PROPOSE)

    def _prevote_new_proposal(self) -> bool:
        """Lines 22-27."""
        proposal, block_hash = self._proposals.get(self.round, (None, b""))
        if self.step != Step.PROPOSE or proposal is None or proposal.valid_round is not None:
            return False
        return self._prevote(block_hash, self._locked is None or self._locked.block_hash == block_hash)

    def _prevote_repeated_proposal(self) -> bool:
        """Lines 28-33."""
        proposal, block_hash = self._proposals.get(self.round, (None, b""))
        if self.step != Step.PROPOSE or proposal is None or proposal.valid_round is None:
            return False
        if not self._tally.get_prevotes(proposal.valid_round).has_quorum(block_hash):
            return False
        locked = self._locked
        is_free = locked is None or locked.round <= proposal.valid_round or locked.block_hash == block_hash
        return self._prevote(block_hash, is_free)

    def _prevote(self, block_hash: bytes, is_lock_respected: bool) -> bool:
        """Lines 23-26 and 29-32: for the block if valid and allowed by the lock, else nil. Waits for valid(v)."""
        if not is_lock_respected:
            self._cast(VoteKind.PREVOTE, None)
            return True
        is_valid = self._ask_validity(block_hash)
        if is_valid is None:
            return False
        self._cast(VoteKind.PREVOTE, block_hash if is_valid else None)
        return True

    def _schedule_prevote_timeout(self) -> bool:
        """Lines 34-35."""
        if self.step != Step.PREVOTE or self._is_prevote_timeout_set:
            return False
        if not self._tally.get_prevotes(self.round).has_any_quorum():
            return False
        self._is_prevote_timeout_set = True
        self._schedule(Step.PREVOTE)
        return True

    def _adopt_polka(self) -> bool:
        """Lines 36-43; for a past round only lines 42-43: the newest polka is the valid value, however late it arrives.

        The block may come from a proposal of any round: the prevotes alone show that this round proposed it.
        """
        for round_ in sorted(self._tally.polkas, reverse=True):
            if self._valid is not None and round_ <= self._valid.round:
                return False
            if round_ > self.round or (round_ == self.round and self.step == Step.PROPOSE):
                continue
            block_hash = self._tally.polkas[round_]
            if not self._ask_validity(block_hash):
                continue
            self._valid = RoundBlock(round_, block_hash)
            if round_ == self.round and self.step == Step.PREVOTE:
                self._locked = self._valid
                self._cast(VoteKind.PRECOMMIT, block_hash)
            return True
        return False

    def _precommit_nil(self) -> bool:
        """Lines 44-46."""
        if self.step != Step.PREVOTE or not self._tally.get_prevotes(self.round).has_quorum(None):
            return False
        self._cast(VoteKind.PRECOMMIT, None)
        return True

    def _schedule_precommit_timeout(self) -> bool:
        """Lines 47-48."""
        if self._is_precommit_timeout_set or not self._tally.get_precommits(self.round).has_any_quorum():
            return False
        self._is_precommit_timeout_set = True
        self._schedule(Step.PRECOMMIT)
        return True

    def _decide(self) -> bool:
        """Lines 49-54: a quorum of precommits of any round. The shell starts the next height."""
        for round_, block_hash in self._tally.decisions.items():
            if self._ask_validity(block_hash):
                signatures = self._tally.get_precommits(round_).get_signatures(block_hash)
                commit = Commit(self.height, round_, block_hash, signatures)
                self.is_decided = True
                self._emit(Decide(self.height, round_, self._blocks[block_hash], commit))
                return True
        return False

    def _skip_round(self) -> bool:
        """Lines 55-56."""
        ahead = max(self._tally.third_round_max, self._distant.find_third_round())
        if ahead <= self.round:
            return False
        self._start_round(ahead)
        return True

    # Leaves

    def _is_member(self) -> bool:
        return self._own_key is not None and self._own_key in self._table

    def _ask_validity(self, block_hash: bytes) -> bool | None:
        """valid(v), or None while the block or the shell's answer is missing; asks the shell the first time."""
        block = self._blocks.get(block_hash)
        if block is not None and block_hash not in self._validity:
            self._validity[block_hash] = None
            self._emit(ValidateBlock(block))
        return self._validity.get(block_hash)

    def _compare_with_first(self, proposal: Proposal, block_hash: bytes) -> None:
        """Reports a proposer's second proposal of a round, once. Only this case builds heads of whole blocks."""
        round_, held = proposal.round, self._proposals.get(proposal.round)
        if round_ in self._accused_rounds or proposal == (held[0] if held else None):
            return
        head = self._misshapen.get(round_)
        if head is None and held is not None:
            head = get_proposal_head(held[0])
        if head is None:
            return
        second = get_proposal_head(proposal)
        if do_proposals_differ(head, second):
            self._accused_rounds.add(round_)
            self._emit(ReportEvidence(make_duplicate_proposal(head, second)))

    def _count(self, vote: Vote) -> None:
        evidence = self._tally.add(vote)
        if evidence is not None:
            self._emit(ReportEvidence(evidence))

    def _cast(self, kind: VoteKind, block_hash: bytes | None) -> None:
        """Broadcasts a vote, if this node is a member, and enters the step that follows the vote."""
        self.step = Step.PREVOTE if kind == VoteKind.PREVOTE else Step.PRECOMMIT
        if self._is_member():
            self._emit(CastVote(kind, self.height, self.round, block_hash))

    def _schedule(self, step: Step) -> None:
        timeout = Timeout(step, self.height, self.round)
        self._emit(ScheduleTimeout(timeout, self._timeouts.compute_delay_ms(step, self.round)))

    def _emit(self, effect: Effect) -> None:
        self._effects.append(effect)
