"""Whether a header contradicts what the chain knows of its height. Then nobody who checked it can have voted for it.

Only what the parent alone determines is compared: another body gives other roots, so a header that merely differs from
the decided one may have been valid, and its precommits may be honest (a later polka releases them).
"""

from __future__ import annotations

from consensus.runtime.staking import state as staking
from consensus.runtime.system.state import read_block_info
from consensus.state.reader import StateReader
from proto_specs.types.chain import FalseVote


def find_contradiction(state: StateReader, evidence: FalseVote) -> str | None:
    """What is false about the header; None when nothing is, or when the chain has forgotten its height."""
    height, header = evidence.vote.height, evidence.header
    if header.height != height:
        return f"a vote at height {height} for a header of height {header.height}"
    parent = read_block_info(state, height - 1) if height else None
    if parent is not None and header.parent_hash != parent.hash:
        return f"its parent is not block {height - 1}"
    if parent is not None and header.time_ms <= parent.time_ms:
        return "its time is not after its parent's"
    maker = staking.makers.read(state, height)
    if maker is not None and header.validators_hash != maker.validators_hash:
        return "its validators are not those elected for it"
    return None
