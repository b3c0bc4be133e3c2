"""Puts proposals together from the parts they travel in. Knows no signatures and no proposers: the caller checks those.

Memory is bounded by what a height's proposers may sign: for each of them and each round at most two heads are held,
and no more than `PARTS_MAX` parts of each. A head whose parts do not make the block it names is its signer's fault and
is remembered as spent, so that it is not put together again.
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
"""A correct proposer signs one. The second is evidence; a third adds nothing."""


class PartError(ProtocolError):
    """The part is not where its head says, or the parts do not make the block that the head names."""


@dataclass(slots=True)
class _Unfinished:
    """Parts by index; None once the proposal was made, or found to be none."""

    parts: dict[int, bytes] | None = field(default_factory=dict)


class PartAssembly:
    """The proposals of one height. Rounds are the caller's to bound."""

    def __init__(self, height: int) -> None:
        self.height = height
        self._heads: dict[tuple[int, bytes], dict[ProposalHead, _Unfinished]] = {}

    def knows(self, head: ProposalHead) -> bool:
        """Whether parts of this very head were added, so that its signature needs no second check."""
        return head in self._heads.get((head.round, head.proposer), {})

    def has_room(self, head: ProposalHead) -> bool:
        """Whether parts of this head may be added: it is held, or would be the second and says something else.

        A signer can sign the same again as often as it likes; only what differs is worth a place, and its signature a
        check.
        """
        heads = self._heads.get((head.round, head.proposer), {})
        is_other = all(do_proposals_differ(head, one) for one in heads)
        return head in heads or (is_other and len(heads) < HEADS_PER_ROUND_MAX)

    def list_heads(self, round_: int, proposer: bytes) -> tuple[ProposalHead, ...]:
        """The heads held of one proposer and round."""
        return tuple(self._heads.get((round_, proposer), ()))

    def find_evidence(self, head: ProposalHead) -> DuplicateProposal | None:
        """The offence of this head's proposer, once it signed another one for its round."""
        heads = self.list_heads(head.round, head.proposer)
        return make_duplicate_proposal(*heads) if len(heads) == HEADS_PER_ROUND_MAX else None

    def add(self, part: ProposalPart) -> Proposal | None:
        """The proposal that this part completes, once. Raises PartError.

        A part of a head without room, and one that is held, changes nothing.
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
