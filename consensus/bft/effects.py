"""The effects that the BFT core asks its shell for, in order; the core never waits for an answer.

`answered_by` of an effect is the type of the input that answers it; None when nothing answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from consensus.bft.inputs import (
    BlockBuilt,
    BlockValidated,
    Input,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
)
from consensus.bft.timeouts import Timeout
from proto_specs.types.chain import Block, Commit, Evidence, VoteKind

Answer: TypeAlias = type[Input] | None


@dataclass(frozen=True, slots=True)
class BuildBlock:
    """Make a block for `height` with this node as `header.proposer`. Answered by `BlockBuilt` with the same round."""

    answered_by: ClassVar[Answer] = BlockBuilt

    height: int
    round: int


@dataclass(frozen=True, slots=True)
class Propose:
    """Sign, persist and send a proposal of `block`. Answered by `ProposalReceived` with that proposal.

    If the signer refuses (it signed another proposal of this round before a crash) nothing answers: the propose
    timeout, which runs at the proposer too, advances the round.
    """

    answered_by: ClassVar[Answer] = ProposalReceived

    height: int
    round: int
    valid_round: int | None
    block: Block


@dataclass(frozen=True, slots=True)
class ValidateBlock:
    """Check `block` by executing it on the chain's head. Answered by `BlockValidated`; asked once for each block hash.

    The core asks about own blocks too: a shell that built the block may answer from memory.
    """

    answered_by: ClassVar[Answer] = BlockValidated

    block: Block


@dataclass(frozen=True, slots=True)
class CastVote:
    """Sign, persist, fsync and send this node's vote; `block_hash` None is nil. Answered by `VoteReceived` with that
    vote.

    If the signer refuses, nothing answers and the core goes on with the other validators' votes alone.
    """

    answered_by: ClassVar[Answer] = VoteReceived

    kind: VoteKind
    height: int
    round: int
    block_hash: bytes | None


@dataclass(frozen=True, slots=True)
class ScheduleTimeout:
    """Start a timer. Answered by `TimeoutElapsed` with it after `delay_ms`; may be dropped at the next height."""

    answered_by: ClassVar[Answer] = TimeoutElapsed

    timeout: Timeout
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Decide:
    """`block` is final, by the precommits of `round` in `commit`. Answered, once applied, by the next `StartHeight`."""

    answered_by: ClassVar[Answer] = StartHeight

    height: int
    round: int
    block: Block
    commit: Commit


@dataclass(frozen=True, slots=True)
class ReportEvidence:
    """A validator signed two votes or proposals for one slot. Keep it for a block, gossip it. Nothing answers."""

    answered_by: ClassVar[Answer] = None

    evidence: Evidence


Effect: TypeAlias = BuildBlock | Propose | ValidateBlock | CastVote | ScheduleTimeout | Decide | ReportEvidence
