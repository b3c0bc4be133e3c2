"""Checks peers' messages before the core may see them: heights, members, proposers, signatures, parts.

Every check uses the head's sets. A message of the next height is checked against the current set; if an epoch ends in
between, a newcomer's first messages are dropped here and the exchange fetches them later.
"""

from __future__ import annotations

from collections.abc import Callable

from consensus.bft.core import BftCore
from consensus.bft.parts import PartAssembly, PartError
from node.p2p.acceptance import Acceptance
from node.replica.tip import ChainTip
from proto_specs.limits import ROUND_MAX, ROUNDS_AHEAD_MAX
from proto_specs.types.chain import (
    Evidence,
    Proposal,
    Vote,
    VoteKind,
    is_proposal_head_signed,
    is_proposal_signed,
    is_vote_signed,
)
from proto_specs.types.gossip import ProposalPart

_KINDS = (VoteKind.PREVOTE, VoteKind.PRECOMMIT)


class Inbox:
    """Messages of the core's height and the next. Holds only unfinished proposals."""

    def __init__(self, genesis: bytes, core: BftCore, tip: ChainTip, report: Callable[[Evidence], None]) -> None:
        self._genesis = genesis
        self._core = core
        self._tip = tip
        self._report = report
        self._assemblies: dict[int, PartAssembly] = {}

    def check_vote(self, vote: Vote) -> Acceptance:
        """ACCEPT: a vote of a validator that the core can use."""
        if vote.kind not in _KINDS or vote.round > ROUND_MAX:
            return Acceptance.REJECT
        if not self._is_current(vote.height) or not self._is_member(vote.validator):
            return Acceptance.IGNORE
        return Acceptance.ACCEPT if is_vote_signed(vote, self._genesis) else Acceptance.REJECT

    def check_proposal(self, proposal: Proposal) -> Acceptance:
        """ACCEPT: a proposal of its round's proposer, for a round near enough."""
        if not self._is_due(proposal.height, proposal.round, proposal.proposer):
            return Acceptance.IGNORE
        return Acceptance.ACCEPT if is_proposal_signed(proposal, self._genesis) else Acceptance.REJECT

    def take_part(self, part: ProposalPart) -> tuple[Acceptance, Proposal | None]:
        """The acceptance of a part, and the proposal that the part completes."""
        head = part.head
        if not self._is_due(head.height, head.round, head.proposer):
            return Acceptance.IGNORE, None
        for height in [height for height in self._assemblies if not self._is_current(height)]:
            del self._assemblies[height]
        assembly = self._assemblies.setdefault(head.height, PartAssembly(head.height))
        is_new = not assembly.knows(head)
        if not assembly.has_room(head):
            return Acceptance.IGNORE, None  # the part proves nothing more, and must not travel on
        if is_new and not is_proposal_head_signed(head, self._genesis):
            return Acceptance.REJECT, None
        try:
            proposal = assembly.add(part)
        except PartError:
            return Acceptance.REJECT, None
        if is_new:
            evidence = assembly.find_evidence(head)
            if evidence is not None:
                self._report(evidence)
        return Acceptance.ACCEPT, proposal

    def _is_current(self, height: int) -> bool:
        return height in (self._core.height, self._core.height + 1)

    def _is_member(self, key: bytes) -> bool:
        head = self._tip.head
        return any(member.key == key for members in (head.validators, head.deciders) for member in members.members)

    def _is_due(self, height: int, round_: int, proposer: bytes) -> bool:
        if not self._is_current(height):
            return False
        core, head = self._core, self._tip.head
        if height == core.height:
            return round_ <= core.round + ROUNDS_AHEAD_MAX and core.get_proposer(round_) == proposer
        rotation = head.rotation if head.height == core.height else head.rotation.advance()
        return round_ <= ROUNDS_AHEAD_MAX and rotation.get_proposer(round_) == proposer
