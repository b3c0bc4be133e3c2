"""Which input answers which effect of the core. A replay uses this to tell what was done before the crash."""

from __future__ import annotations

from collections.abc import Hashable

from consensus.bft.effects import (
    BuildBlock,
    CastVote,
    Decide,
    Effect,
    Propose,
    ReportEvidence,
    ScheduleTimeout,
    ValidateBlock,
)
from consensus.bft.inputs import (
    BlockBuilt,
    BlockValidated,
    Input,
    ProposalReceived,
    StartHeight,
    TimeoutElapsed,
    VoteReceived,
)
from proto_specs.types.chain import compute_block_hash


def get_height(event: Input) -> int | None:
    """The height of an input; None when it has none."""
    match event:
        case ProposalReceived():
            return event.proposal.height
        case VoteReceived():
            return event.vote.height
        case TimeoutElapsed():
            return event.timeout.height
        case BlockBuilt() | StartHeight():
            return event.height
        case BlockValidated():
            return None


def get_effect_key(effect: Effect) -> Hashable:
    """The identity of an effect, equal to the key of the input that answers it; None when the log keeps no answer."""
    match effect:
        case BuildBlock() | Propose():
            return (effect.answered_by, effect.height, effect.round)
        case ValidateBlock():
            return (effect.answered_by, compute_block_hash(effect.block.header))
        case CastVote():
            return (effect.answered_by, int(effect.kind), effect.height, effect.round)
        case ScheduleTimeout():
            return (effect.answered_by, effect.timeout)
        case Decide() | ReportEvidence():
            return None


def get_answer_key(event: Input) -> Hashable:
    """The key of an answer, see `get_effect_key`."""
    match event:
        case BlockBuilt():
            return (BlockBuilt, event.height, event.round)
        case ProposalReceived():
            return (ProposalReceived, event.proposal.height, event.proposal.round)
        case BlockValidated():
            return (BlockValidated, event.block_hash)
        case VoteReceived():
            return (VoteReceived, int(event.vote.kind), event.vote.height, event.vote.round)
        case TimeoutElapsed():
            return (TimeoutElapsed, event.timeout)
        case StartHeight():
            return ()
