"""What the BFT core asks of its shell, in the order given. Each says what answers it; the core never waits for one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from consensus.bft.timeouts import Timeout
from proto_specs.types.chain import Block, Commit, Evidence, VoteKind


@dataclass(frozen=True, slots=True)
class BuildBlock:
    """Make a block for `height` with this node as `header.proposer`. Answered by `BlockBuilt` with the same round."""

    height: int
    round: int


@dataclass(frozen=True, slots=True)
class Propose:
    """Sign, persist, send a proposal of `block`. Answered by `ProposalReceived` with it.

    If the signer refuses (it signed another for this round before a crash) nothing answers: the propose timeout,
    which runs at the proposer too, carries the round on.
    """

    height: int
    round: int
    valid_round: int | None
    block: Block


@dataclass(frozen=True, slots=True)
class ValidateBlock:
    """Check `block` against the chain's head, by executing it. Answered by `BlockValidated`; asked once per block hash.

    Own blocks are asked about like all others: a shell that built the block may answer from memory.
    """

    block: Block


@dataclass(frozen=True, slots=True)
class CastVote:
    """Sign, persist, fsync, send this node's vote; `block_hash` None is nil. Answered by `VoteReceived` with it.

    If the signer refuses, nothing answers and the core counts on the others alone.
    """

    kind: VoteKind
    height: int
    round: int
    block_hash: bytes | None


@dataclass(frozen=True, slots=True)
class ScheduleTimeout:
    """Answered by `TimeoutElapsed(timeout)` after `delay_ms` ms; may be dropped once another height starts."""

    timeout: Timeout
    delay_ms: int


@dataclass(frozen=True, slots=True)
class Decide:
    """`block` is final, by the precommits of `round` in `commit`. Answered, once applied, by the next `StartHeight`."""

    height: int
    round: int
    block: Block
    commit: Commit


@dataclass(frozen=True, slots=True)
class ReportEvidence:
    """A validator signed two votes or proposals for one slot. Not answered; put it in the evidence pool, gossip it."""

    evidence: Evidence


Effect: TypeAlias = BuildBlock | Propose | ValidateBlock | CastVote | ScheduleTimeout | Decide | ReportEvidence
