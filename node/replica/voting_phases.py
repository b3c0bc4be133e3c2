"""The phases of this node's voting: rules, then three tables. Pure; knows no blocks, votes or files.

Three things are true of a voting node at once, and none decides another, so each has a small table of its own. A node
may fall behind in any phase of a height; a block of others may be written before the first height begins, within one
and between two; a height may even begin while such a block is being written. One table of their product would say each
rule many times over.

The height. Voting is UNBEGUN until the node has caught up: messages are turned away, and blocks that others decided
are adopted. It is DECIDING from the start of a height to the moment its block is on disk, decided here or adopted from
others. Then it is RESTING until the block interval is over; a block that is adopted meanwhile begins the rest anew.
Only the alarm of the latest rest wakes it.

The work. Executing, checking and writing blocks are jobs off the loop. Voting is FREE or WORKING on one job; while it
works it takes in nothing, and what comes waits. A second job is never started, and none ends twice.

The signing. This node is SPEAKING: what the core asks it to say is signed and sent. It is SILENT while it has fallen
behind: what it would say is kept, and said when it has caught up. It has STOOD_DOWN once another process has signed
with its key: nothing is signed again for as long as this process runs, behind or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar


class VotingRefusal(Enum):
    """What a phase does with an event other than take it."""

    IGNORED = "ignored"
    """It changes nothing and is passed over."""
    NEVER = "never"
    """No input leads to it: a bug of ours."""


_IGNORED, _NEVER = VotingRefusal.IGNORED, VotingRefusal.NEVER


class HeightPhase(Enum):
    """Where this node is between one block and the next."""

    UNBEGUN = "unbegun"
    DECIDING = "deciding"
    RESTING = "resting"


class HeightEvent(Enum):
    """What happens to the height."""

    BEGUN = "begun"
    """The node has caught up."""
    MESSAGE = "message"
    """A proposal or vote of this height or the next."""
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
    """What happens to the job."""

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
    """What happens to this node's right to sign."""

    FELL_BEHIND = "fell behind"
    """A block further on than the next one is being fetched."""
    CAUGHT_UP = "caught up"
    """A peer shows no later block."""
    KEY_SHARED = "key shared"
    """A vote of our key came that our signer did not make."""


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
    """The phase that follows when `event` happens in `phase`; None when it is ignored.

    Asserts that the table does not call it a bug of ours.
    """
    found = table[phase][event]
    assert found is not VotingRefusal.NEVER, f"{event.name} in phase {phase.name}"
    return None if isinstance(found, VotingRefusal) else found
