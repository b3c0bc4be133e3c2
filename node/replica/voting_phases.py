"""The phases of this node's voting: rules, then three tables. Pure; knows no blocks, votes or files.

A voting node has three phases at once, and none of them determines another, so each has a small table of its own. A
node may fall behind in any phase of a height. A block that others decided may be written before the first height
begins, within a height and between two heights, and a height may even begin meanwhile. A single table of their product
would repeat each rule many times.

The height. Voting is UNBEGUN until the node has caught up: messages are turned away, and blocks that others decided
are adopted. It is DECIDING from the start of a height until its block is on disk, whether decided here or adopted from
others. Then it is RESTING until the block interval is over; adopting a block meanwhile restarts the rest. Only the
timer of the latest rest ends it.

The work. Executing, checking and writing blocks are jobs off the loop. Voting is FREE, or WORKING on a job; while it
works it takes no input, and inputs wait. A second job is never started, and no job ends twice.

The signing. A SPEAKING node signs and sends what the core asks for. A node that has fallen behind is SILENT: it keeps
these messages, and sends them when it has caught up. A node has STOOD_DOWN once another process has signed with its
key: it signs nothing more for the life of this process, behind or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar


class VotingRefusal(Enum):
    """The reasons why a phase does not take an event."""

    IGNORED = "ignored"
    """The event changes nothing."""
    NEVER = "never"
    """No input leads to the event: it is a bug of ours."""


_IGNORED, _NEVER = VotingRefusal.IGNORED, VotingRefusal.NEVER


class HeightPhase(Enum):
    """The phase of this node between two blocks."""

    UNBEGUN = "unbegun"
    DECIDING = "deciding"
    RESTING = "resting"


class HeightEvent(Enum):
    """The events of a height."""

    BEGUN = "begun"
    """The node has caught up."""
    MESSAGE = "message"
    """A proposal or vote of this height or the next arrived."""
    DECIDED = "decided"
    """The block that the core decided is on disk."""
    ADOPTED = "adopted"
    """A block that others decided is on disk."""
    WOKEN = "woken"
    """The latest rest is over."""


HEIGHT_TABLE: Mapping[HeightPhase, Mapping[HeightEvent, HeightPhase | VotingRefusal]] = {
    HeightPhase.UNBEGUN: {
        HeightEvent.BEGUN: HeightPhase.DECIDING,
        HeightEvent.MESSAGE: _IGNORED,
        HeightEvent.DECIDED: _NEVER,
        HeightEvent.ADOPTED: HeightPhase.UNBEGUN,
        HeightEvent.WOKEN: _NEVER,
    },
    HeightPhase.DECIDING: {
        HeightEvent.BEGUN: _NEVER,
        HeightEvent.MESSAGE: HeightPhase.DECIDING,
        HeightEvent.DECIDED: HeightPhase.RESTING,
        HeightEvent.ADOPTED: HeightPhase.RESTING,
        HeightEvent.WOKEN: _NEVER,
    },
    HeightPhase.RESTING: {
        HeightEvent.BEGUN: _NEVER,
        HeightEvent.MESSAGE: HeightPhase.RESTING,
        HeightEvent.DECIDED: _NEVER,
        HeightEvent.ADOPTED: HeightPhase.RESTING,
        HeightEvent.WOKEN: HeightPhase.DECIDING,
    },
}


class WorkPhase(Enum):
    """Whether a job is under way."""

    FREE = "free"
    WORKING = "working"


class WorkEvent(Enum):
    """The events of a job."""

    STARTED = "started"
    ENDED = "ended"


WORK_TABLE: Mapping[WorkPhase, Mapping[WorkEvent, WorkPhase | VotingRefusal]] = {
    WorkPhase.FREE: {WorkEvent.STARTED: WorkPhase.WORKING, WorkEvent.ENDED: _NEVER},
    WorkPhase.WORKING: {WorkEvent.STARTED: _NEVER, WorkEvent.ENDED: WorkPhase.FREE},
}


class SigningPhase(Enum):
    """Whether this node signs."""

    SPEAKING = "speaking"
    SILENT = "silent"
    STOOD_DOWN = "stood down"


class SigningEvent(Enum):
    """The events that decide whether this node signs."""

    FELL_BEHIND = "fell behind"
    """The node fetches a block further on than the next."""
    CAUGHT_UP = "caught up"
    """A peer shows no later block."""
    KEY_SHARED = "key shared"
    """A vote of our key arrived that our signer did not make."""


SIGNING_TABLE: Mapping[SigningPhase, Mapping[SigningEvent, SigningPhase | VotingRefusal]] = {
    SigningPhase.SPEAKING: {
        SigningEvent.FELL_BEHIND: SigningPhase.SILENT,
        SigningEvent.CAUGHT_UP: _IGNORED,
        SigningEvent.KEY_SHARED: SigningPhase.STOOD_DOWN,
    },
    SigningPhase.SILENT: {
        SigningEvent.FELL_BEHIND: _IGNORED,
        SigningEvent.CAUGHT_UP: SigningPhase.SPEAKING,
        SigningEvent.KEY_SHARED: SigningPhase.STOOD_DOWN,
    },
    SigningPhase.STOOD_DOWN: {
        SigningEvent.FELL_BEHIND: _IGNORED,
        SigningEvent.CAUGHT_UP: _IGNORED,
        SigningEvent.KEY_SHARED: _IGNORED,
    },
}

P = TypeVar("P", HeightPhase, WorkPhase, SigningPhase)
E = TypeVar("E", HeightEvent, WorkEvent, SigningEvent)


def advance_voting(table: Mapping[P, Mapping[E, P | VotingRefusal]], phase: P, event: E) -> P | None:
    """The phase that follows `event` in `phase`; None when the event is ignored.

    Asserts that the table allows the event.
    """
    found = table[phase][event]
    assert found is not VotingRefusal.NEVER, f"{event.name} in phase {phase.name}"
    return None if isinstance(found, VotingRefusal) else found
