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
    """Whether the body hangs under the header. Votes name the header alone: with two bodies under one header, signed
    by a faulty proposer, correct processes would vote for the same hash and mean different blocks.
    """
    return (
        compute_body_root(block.evidence, block.transactions) == block.header.body_root
        and compute_commit_hash(block.last_commit) == block.header.last_commit_hash
    )
