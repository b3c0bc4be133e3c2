"""Which input answers which effect of the core. A replay uses this to tell what was done before the crash."""

from __future__ import annotations

from collections.abc import Hashable

from consensus.bft.effects import BuildBlock, CastVote, Effect, Propose, ScheduleTimeout, ValidateBlock
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
    """The identity of an effect, equal to the key of the input that answers it; None for effects without an answer."""
    match effect:
        case BuildBlock():
            return ("built", effect.height, effect.round)
        case Propose():
            return ("proposed", effect.height, effect.round)
        case ValidateBlock():
            return ("validated", compute_block_hash(effect.block.header))
        case CastVote():
            return ("voted", int(effect.kind), effect.height, effect.round)
        case ScheduleTimeout():
            return ("elapsed", effect.timeout)
        case _:
            return None


def get_answer_key(event: Input) -> Hashable:
    """See `get_effect_key`."""
    match event:
        case BlockBuilt():
            return ("built", event.height, event.round)
        case ProposalReceived():
            return ("proposed", event.proposal.height, event.proposal.round)
        case BlockValidated():
            return ("validated", event.block_hash)
        case VoteReceived():
            return ("voted", event.vote.kind, event.vote.height, event.vote.round)
        case TimeoutElapsed():
            return ("elapsed", event.timeout)
        case _:
            return ()
