"""Checks served blocks in two steps that a thread can run: they form a chain, and they were decided."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.bft.commit import compute_commit_sign_bytes, verify_commit_shape
from consensus.bft.errors import CommitError
from node.signatures.jobs import SignatureJob
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import (
    ValidatorSet,
    compute_block_hash,
    compute_body_root,
    compute_commit_hash,
)
from proto_specs.types.gossip import FinalBlock


@dataclass(slots=True)
class Run:
    """Consecutive blocks that name the same validator set, and the encoded length of each."""

    validators_hash: bytes
    blocks: tuple[FinalBlock, ...]
    sizes_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Checked:
    """Consecutive blocks from `start` on whose bodies match their headers. Their commits are not checked yet."""

    start: int
    runs: tuple[Run, ...]


def check_blocks(start: int, blocks: tuple[FinalBlock, ...]) -> Checked | str:
    """Checks everything that needs no validator set; returns the fault as text if there is one."""
    parent: FinalBlock | None = None
    runs: list[Run] = []
    for height, final in enumerate(blocks, start):
        fault = _find_fault(height, parent, final)
        if fault is not None:
            return fault
        named, size = final.block.header.validators_hash, len(encode(final))
        if not runs or runs[-1].validators_hash != named:
            runs.append(Run(named, (), ()))
        runs[-1].blocks += (final,)
        runs[-1].sizes_bytes += (size,)
        parent = final
    return Checked(start, tuple(runs))


def list_commit_jobs(
    blocks: tuple[FinalBlock, ...], validators: ValidatorSet, genesis: bytes
) -> list[SignatureJob] | str:
    """The signatures that prove that this set decided each block; or why the set did not."""
    jobs = []
    for final in blocks:
        header, commit = final.block.header, final.commit
        try:
            verify_commit_shape(commit, validators, header.height, compute_block_hash(header))
        except CommitError as error:
            return str(error)
        digest = hash_tagged(Tag.VOTE_SIGN, compute_commit_sign_bytes(commit, genesis))
        jobs += [SignatureJob(one.validator, digest, one.signature) for one in commit.signatures]
    return jobs


def _find_fault(height: int, parent: FinalBlock | None, final: FinalBlock) -> str | None:
    block, header = final.block, final.block.header
    if header.height != height or (parent is not None and header.parent_hash != parent.commit.block_hash):
        return f"block {height} does not follow its parent"
    if final.commit.height != height or final.commit.block_hash != compute_block_hash(header):
        return f"the commit of block {height} is for another one"
    if header.body_root != compute_body_root(block.evidence, block.transactions):
        return f"the body of block {height} is another one's"
    if header.last_commit_hash != compute_commit_hash(block.last_commit):
        return f"block {height} does not hold the commit of its parent"
    return None
