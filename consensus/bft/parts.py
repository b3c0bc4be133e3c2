"""Assembles proposals from the parts they travel in. Knows no signatures and no proposers: the caller checks those.

Memory is bounded by what a height's proposers may sign: each proposer and round has at most two heads, and each head
at most `PARTS_MAX` parts. When the parts of a head do not make the block it names, its signer is at fault; the head
is remembered as spent, so that it is not assembled again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from consensus.bft.evidence import do_proposals_differ, make_duplicate_proposal
from proto_specs.codec import decode
from proto_specs.errors import DecodeError, ProtocolError
from proto_specs.limits import BLOCK_BYTES_MAX, PARTS_MAX, VALIDATORS_MAX
from proto_specs.types.chain import Block, DuplicateProposal, Proposal, ProposalHead, compute_block_hash
from proto_specs.types.gossip import ProposalPart, is_part_in_place

HEADS_PER_ROUND_MAX = 2
"""A correct proposer signs one head. The second is evidence; a third adds nothing."""


class PartError(ProtocolError):
    """The part is not where its head says, or the parts do not make the block that the head names."""


@dataclass(slots=True)
class _Unfinished:
    """Parts by index; None once the proposal was made or turned out to be false."""

    parts: dict[int, bytes] | None = field(default_factory=dict)


class PartAssembly:
    """The proposals of one height. The caller bounds the rounds."""

    def __init__(self, height: int) -> None:
        self.height = height
        self._heads: dict[tuple[int, bytes], dict[ProposalHead, _Unfinished]] = {}

    def knows(self, head: ProposalHead) -> bool:
        """Whether parts of this exact head were added, so that its signature needs no second check."""
        return head in self._heads.get((head.round, head.proposer), {})

    def has_room(self, head: ProposalHead) -> bool:
        """Whether parts of this head may be added: the head is held, or it would be the second and differs in content.

        A signer can sign the same content as often as it likes; only different content deserves a place and a signature
        check.
        """
        heads = self._heads.get((head.round, head.proposer), {})
        is_other = all(do_proposals_differ(head, one) for one in heads)
        return head in heads or (is_other and len(heads) < HEADS_PER_ROUND_MAX)

    def list_heads(self, round_: int, proposer: bytes) -> tuple[ProposalHead, ...]:
        """The heads held of one proposer and round."""
        return tuple(self._heads.get((round_, proposer), ()))

    def find_evidence(self, head: ProposalHead) -> DuplicateProposal | None:
        """Evidence against this head's proposer, when it signed a different head for the same round."""
        heads = self.list_heads(head.round, head.proposer)
        return make_duplicate_proposal(*heads) if len(heads) == HEADS_PER_ROUND_MAX else None

    def add(self, part: ProposalPart) -> Proposal | None:
        """Adds a part; returns the proposal if this part completes it, once. Raises PartError.

        A part of a head without room, and a part already held, change nothing.
        """
        head = part.head
        assert head.height == self.height, "an assembly is of one height"
        if not 0 < head.parts_count <= PARTS_MAX:
            raise PartError(f"{head.parts_count} parts, where 1 to {PARTS_MAX} are allowed")
        if not is_part_in_place(part):
            raise PartError(f"part {part.index} does not lie under the root of its proposal")
        heads = self._heads.setdefault((head.round, head.proposer), {})
        if not self.has_room(head):
            return None
        unfinished = heads.setdefault(head, _Unfinished())
        if unfinished.parts is None:
            return None
        unfinished.parts[part.index] = part.data
        if len(unfinished.parts) < head.parts_count:
            return None
        data = b"".join(unfinished.parts[index] for index in range(head.parts_count))
        unfinished.parts = None
        return _make_proposal(head, data)


def _make_proposal(head: ProposalHead, data: bytes) -> Proposal:
    if len(data) > BLOCK_BYTES_MAX + 128 * VALIDATORS_MAX:
        raise PartError(f"{len(data)} bytes are no block")
    try:
        block = decode(Block, data)
    except DecodeError as error:
        raise PartError(f"the parts make no block: {error}") from error
    if compute_block_hash(block.header) != head.block_hash:
        raise PartError("the parts make another block than the head names")
    return Proposal(head.height, head.round, head.valid_round, block, head.proposer, head.signature)
