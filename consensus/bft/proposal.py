"""Whether a proposal is admissible for its round, before its block is executed. Knows no votes."""

from __future__ import annotations

from proto_specs.types.chain import Block, Proposal, compute_body_root, compute_commit_hash


def is_proposal_well_formed(proposal: Proposal) -> bool:
    """Whether the block is of the proposal's height, valid_round is earlier, and a new block is the proposer's own.

    A block proposed again keeps its first proposer in the header. Each correct member of the polka that the proposal
    points to has checked that proposer when the block was new.
    """
    if proposal.block.header.height != proposal.height:
        return False
    if proposal.valid_round is None:
        return proposal.block.header.proposer == proposal.proposer
    return proposal.valid_round < proposal.round


def is_block_intact(block: Block) -> bool:
    """Whether the body matches the header. Votes name the header alone: if a faulty proposer signed two bodies under
    one header, correct processes would vote for the same hash and mean different blocks.
    """
    return (
        compute_body_root(block.evidence, block.transactions) == block.header.body_root
        and compute_commit_hash(block.last_commit) == block.header.last_commit_hash
    )
