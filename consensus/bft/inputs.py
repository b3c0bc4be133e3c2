"""The inputs of the BFT core. The shell has decoded, bounded and signature-checked everything that came off a wire.

Inputs of a height other than the core's are ignored; the shell keeps messages of the next height until it starts.
Replaying the same inputs in the same order gives the same effects: a write-ahead log of inputs restores a core.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from consensus.bft.proposer import ProposerRotation
from consensus.bft.timeouts import Timeout
from proto_specs.types.chain import Block, Proposal, ValidatorSet, Vote


@dataclass(frozen=True, slots=True)
class StartHeight:
    """Begin round 0 of `height`. The first input, and the first after each `Decide`.

    `rotation` belongs to this height and this set. For a node that only follows, `own_key` is None or no member's key:
    the node tallies and decides but never proposes or votes.
    """

    height: int
    validators: ValidatorSet
    rotation: ProposerRotation
    own_key: bytes | None


@dataclass(frozen=True, slots=True)
class ProposalReceived:
    """A proposal, from a peer or of this node, whose signature `is_proposal_signed` accepts.

    The core itself checks that it comes from its round's proposer and that the body hangs under the header.
    """

    proposal: Proposal


@dataclass(frozen=True, slots=True)
class BlockValidated:
    """Answers `ValidateBlock`: whether the block is a valid child of the chain's head (the paper's valid(v))."""

    block_hash: bytes
    is_valid: bool


@dataclass(frozen=True, slots=True)
class BlockBuilt:
    """Answers `BuildBlock`. The core ignores it when it has left that round in the meantime."""

    height: int
    round: int
    block: Block


@dataclass(frozen=True, slots=True)
class VoteReceived:
    """A vote, from a peer or of this node, whose signature `is_vote_signed` accepts."""

    vote: Vote


@dataclass(frozen=True, slots=True)
class TimeoutElapsed:
    """Answers `ScheduleTimeout` after its delay. The core ignores stale ones, so the shell never cancels any."""

    timeout: Timeout


Input: TypeAlias = StartHeight | ProposalReceived | BlockValidated | BlockBuilt | VoteReceived | TimeoutElapsed
