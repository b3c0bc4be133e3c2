"""Whether a proposal may stand for its round at all, before anyone executes its block. Knows no votes."""

from __future__ import annotations

from proto_specs.types.chain import Block, Proposal, compute_body_root, compute_commit_hash


def is_proposal_well_formed(proposal: Proposal) -> bool:
    """Whether its block is of its height, it looks back only, and a new block is the proposer's own.

    A block proposed again keeps its first proposer in the header; that one was checked when it was new, by each
    correct member of the polka the proposal must point to.
    """
    if proposal.block.header.height != proposal.height:
        return False
    if proposal.valid_round is None:
        return proposal.block.header.proposer == proposal.proposer
    return proposal.valid_round < proposal.round


def is_block_intact(block: Block) -> bool:
    """Whether the body hangs under the header. A proposal's signature covers the header's hash alone, so without
    this check whoever relays a block could swap its body and make others think the proposer's block invalid.
    """
    return (
        compute_body_root(block.evidence, block.transactions) == block.header.body_root
        and compute_commit_hash(block.last_commit) == block.header.last_commit_hash
    )
