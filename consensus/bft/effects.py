"""What the BFT core asks of its shell, in the order given; the core never waits for an answer.

`answered_by` of an effect is the type of the input that answers it; None where nothing answers.
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
    """Sign, persist, send a proposal of `block`. Answered by `ProposalReceived` with it.

    If the signer refuses (it signed another for this round before a crash) nothing answers: the propose timeout,
    which runs at the proposer too, carries the round on.
    """

    answered_by: ClassVar[Answer] = ProposalReceived

    height: int
    round: int
    valid_round: int | None
    block: Block


@dataclass(frozen=True, slots=True)
class ValidateBlock:
    """Check `block` against the chain's head, by executing it. Answered by `BlockValidated`; asked once per block hash.

    Own blocks are asked about like all others: a shell that built the block may answer from memory.
    """

    answered_by: ClassVar[Answer] = BlockValidated

    block: Block


@dataclass(frozen=True, slots=True)
class CastVote:
    """Sign, persist, fsync, send this node's vote; `block_hash` None is nil. Answered by `VoteReceived` with it.

    If the signer refuses, nothing answers and the core counts on the others alone.
    """

    answered_by: ClassVar[Answer] = VoteReceived

    kind: VoteKind
    height: int
    round: int
    block_hash: bytes | None


@dataclass(frozen=True, slots=True)
class ScheduleTimeout:
    """Answered by `TimeoutElapsed` with it, `delay_ms` ms later; may be dropped once another height starts."""

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
