"""Puts proposals together from the parts they travel in. Knows no signatures and no proposers: the caller checks those.

Memory is bounded by what a height's proposers may sign: for each of them and each round at most two heads are held,
and no more than `PARTS_MAX` parts of each. A head whose parts do not make the block it names is its signer's fault and
is remembered as spent, so that it is not put together again.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from proto_specs.codec import decode
from proto_specs.errors import DecodeError, ProtocolError
from proto_specs.limits import BLOCK_BYTES_MAX, PARTS_MAX, VALIDATORS_MAX
from proto_specs.types.chain import Block, Proposal, ProposalHead, compute_block_hash
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

    def list_heads(self, round_: int, proposer: bytes) -> tuple[ProposalHead, ...]:
        """The heads held of one proposer and round: more than one is an offence."""
        return tuple(self._heads.get((round_, proposer), ()))

    def add(self, part: ProposalPart) -> Proposal | None:
        """The proposal that this part completes, once. Raises PartError.

        A part of a third head of its round, and one that is held, changes nothing.
        """
        head = part.head
        assert head.height == self.height, "an assembly is of one height"
        if not 0 < head.parts_count <= PARTS_MAX:
            raise PartError(f"{head.parts_count} parts, where 1 to {PARTS_MAX} are allowed")
        if not is_part_in_place(part):
            raise PartError(f"part {part.index} does not lie under the root of its proposal")
        heads = self._heads.setdefault((head.round, head.proposer), {})
        if head not in heads and len(heads) == HEADS_PER_ROUND_MAX:
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
