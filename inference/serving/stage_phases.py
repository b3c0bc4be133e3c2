"""The phases of one request on one stage, and what each takes: rules, then the table. Pure; knows no rows and no keys.

A request is SERVING from the moment it is accepted: rows come in, are computed and go out, and leaves follow them. Its
length is not known yet.

It is FED once its length is known: every row is in, and one more row is a broken rule. A last stage ends the generation
itself, also where it is the first one too; another first stage learns the length from the token that ends the
generation, a middle stage from a partial leaf or from the roots of the stages before. What was fed is still computed,
and leaves still come.

It is STOPPED when the client is gone or does not sign. Nothing more is computed: rows, leaves and results that were
under way are passed over. Signatures, the voucher and the roots still count, for they settle what was vouched for. A
last stage leaves this phase at once: it knows whether there is anything to settle.

It is CUT once the windows that are settled are fixed, by the last stage's voucher or by the roots of the stages before.
Everything after those windows is forgotten, and what is missing are signatures and roots. Windows are fixed once. The
two ends of a path are always cut before they finish; a middle stage that has exactly what is settled need not be.

It is FINISHED when every window that is settled has both neighbours' signatures and the stage has signed its own roots;
it has FAILED when a rule was broken, a neighbour gave up, or a stop found nothing to settle. Both are final: whatever
still arrives is passed over.

Events are of two kinds. What arrives (rows, leaf, result, countersignature, voucher, roots, stop, stray) is looked up
before it is read; the phase says whether it is read at all, and a check of its content may still refuse it. What the
stage concludes (length known, windows fixed, all signed, given up) is looked up at the moment it is concluded.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from inference.serving.events import Computed, StageInput, Stop
from proto_specs.types.wire import Countersign, Failed, OutputLeaf, RootsFrame, Rows, Token, VoucherFrame


class StagePhase(Enum):
    """How far a request is on one stage."""

    SERVING = "being served"
    FED = "fed"
    STOPPED = "stopped"
    CUT = "cut"
    FINISHED = "finished"
    FAILED = "failed"


class StageEvent(Enum):
    """What happens to a request: arrivals first, then conclusions."""

    ROWS = "rows"
    """Rows, or a generated token that is fed back."""
    LEAF = "leaf"
    """The sender's signature over a window of rows."""
    RESULT = "result"
    """The shard's answer to rows."""
    COUNTERSIGNATURE = "countersignature"
    """The receiver's signature under a leaf of ours."""
    VOUCHER = "voucher"
    """The client's promise to a last stage; at a first stage, the last one's call to settle it."""
    ROOTS = "roots"
    """What the stages before have signed of the windows that are settled."""
    STOP = "stop"
    """The client is gone or does not sign."""
    STRAY = "stray frame"
    """A frame that no stage takes in mid-request."""
    LENGTH_KNOWN = "other length"
    """How many positions the request has."""
    WINDOWS_FIXED = "other cut"
    """How many windows are settled."""
    ALL_SIGNED = "other end"
    """Every leaf that is settled has both signatures, and the roots of the stages before are here."""
    GIVEN_UP = "other failure"
    """A neighbour gives up, a rule is broken, or a stop finds nothing to settle."""


class StageRefusal(Enum):
    """What a phase does with an event other than take it."""

    IGNORED = "ignored"
    """It was under way when the phase began: passed over."""
    REFUSED = "refused"
    """The other side breaks a rule: the request fails."""
    NEVER = "never"
    """No input leads to it: a bug of ours."""


_IGNORED, _REFUSED, _NEVER = StageRefusal.IGNORED, StageRefusal.REFUSED, StageRefusal.NEVER

COMPUTING = frozenset({StagePhase.SERVING, StagePhase.FED})
"""Phases in which rows that came are computed, and what is computed goes out under our leaves."""
OVER = frozenset({StagePhase.FINISHED, StagePhase.FAILED})
"""Phases that nothing leaves."""

_OVER_ROW: Mapping[StageEvent, StagePhase | StageRefusal] = {
    StageEvent.ROWS: _IGNORED,
    StageEvent.LEAF: _IGNORED,
    StageEvent.RESULT: _IGNORED,
    StageEvent.COUNTERSIGNATURE: _IGNORED,
    StageEvent.VOUCHER: _IGNORED,
    StageEvent.ROOTS: _IGNORED,
    StageEvent.STOP: _IGNORED,
    StageEvent.STRAY: _IGNORED,
    StageEvent.LENGTH_KNOWN: _NEVER,
    StageEvent.WINDOWS_FIXED: _NEVER,
    StageEvent.ALL_SIGNED: _NEVER,
    StageEvent.GIVEN_UP: _IGNORED,
}

STAGE_TABLE: Mapping[StagePhase, Mapping[StageEvent, StagePhase | StageRefusal]] = {
    StagePhase.SERVING: {
        StageEvent.ROWS: StagePhase.SERVING,
        StageEvent.LEAF: StagePhase.SERVING,
        StageEvent.RESULT: StagePhase.SERVING,
        StageEvent.COUNTERSIGNATURE: StagePhase.SERVING,
        StageEvent.VOUCHER: StagePhase.SERVING,
        StageEvent.ROOTS: StagePhase.SERVING,
        StageEvent.STOP: StagePhase.STOPPED,
        StageEvent.STRAY: _REFUSED,
        StageEvent.LENGTH_KNOWN: StagePhase.FED,
        StageEvent.WINDOWS_FIXED: StagePhase.CUT,
        StageEvent.ALL_SIGNED: _NEVER,
        StageEvent.GIVEN_UP: StagePhase.FAILED,
    },
    StagePhase.FED: {
        StageEvent.ROWS: _REFUSED,
        StageEvent.LEAF: StagePhase.FED,
        StageEvent.RESULT: StagePhase.FED,
        StageEvent.COUNTERSIGNATURE: StagePhase.FED,
        StageEvent.VOUCHER: StagePhase.FED,
        StageEvent.ROOTS: StagePhase.FED,
        StageEvent.STOP: StagePhase.STOPPED,
        StageEvent.STRAY: _REFUSED,
        StageEvent.LENGTH_KNOWN: _NEVER,
        StageEvent.WINDOWS_FIXED: StagePhase.CUT,
        StageEvent.ALL_SIGNED: StagePhase.FINISHED,
        StageEvent.GIVEN_UP: StagePhase.FAILED,
    },
    StagePhase.STOPPED: {
        StageEvent.ROWS: _IGNORED,
        StageEvent.LEAF: _IGNORED,
        StageEvent.RESULT: _IGNORED,
        StageEvent.COUNTERSIGNATURE: StagePhase.STOPPED,
        StageEvent.VOUCHER: StagePhase.STOPPED,
        StageEvent.ROOTS: StagePhase.STOPPED,
        StageEvent.STOP: _IGNORED,
        StageEvent.STRAY: _REFUSED,
        StageEvent.LENGTH_KNOWN: StagePhase.STOPPED,
        StageEvent.WINDOWS_FIXED: StagePhase.CUT,
        StageEvent.ALL_SIGNED: StagePhase.FINISHED,
        StageEvent.GIVEN_UP: StagePhase.FAILED,
    },
    StagePhase.CUT: {
        StageEvent.ROWS: _IGNORED,
        StageEvent.LEAF: _IGNORED,
        StageEvent.RESULT: _IGNORED,
        StageEvent.COUNTERSIGNATURE: StagePhase.CUT,
        StageEvent.VOUCHER: StagePhase.CUT,
        StageEvent.ROOTS: StagePhase.CUT,
        StageEvent.STOP: _IGNORED,
        StageEvent.STRAY: _REFUSED,
        StageEvent.LENGTH_KNOWN: _NEVER,
        StageEvent.WINDOWS_FIXED: _REFUSED,
        StageEvent.ALL_SIGNED: StagePhase.FINISHED,
        StageEvent.GIVEN_UP: StagePhase.FAILED,
    },
    StagePhase.FINISHED: _OVER_ROW,
    StagePhase.FAILED: _OVER_ROW,
}


def advance_stage(phase: StagePhase, event: StageEvent) -> StagePhase | StageRefusal:
    """What follows when `event` happens in `phase`. Asserts that the table does not call it a bug of ours."""
    found = STAGE_TABLE[phase][event]
    assert found is not StageRefusal.NEVER, f"{event.name} in phase {phase.name}"
    return found


def classify(event: StageInput) -> StageEvent:
    """What arrives with an input. `Failed` is the other side's word that the request is given up."""
    match event:
        case Rows() | Token():
            return StageEvent.ROWS
        case OutputLeaf():
            return StageEvent.LEAF
        case Computed():
            return StageEvent.RESULT
        case Countersign():
            return StageEvent.COUNTERSIGNATURE
        case VoucherFrame():
            return StageEvent.VOUCHER
        case RootsFrame():
            return StageEvent.ROOTS
        case Stop():
            return StageEvent.STOP
        case Failed():
            return StageEvent.GIVEN_UP
        case _:
            return StageEvent.STRAY
