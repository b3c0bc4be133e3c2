"""The phases of a request on a stage, and what each takes: rules, then the table. Pure; knows no rows and no keys.

A request is SERVING from the moment it is accepted: rows come in, are computed and go out, and leaves follow them. Its
length is not known yet.

It is FED once its length is known: every row is in, and another row breaks a rule. A last stage ends the generation
itself, even when it is also the first stage. Any other first stage learns the length from the token that ends the
generation, a middle stage from a partial leaf or from the roots of the stages before. The rows that came are still
computed, and leaves still come.

It is STOPPED when the client is gone or does not sign. Nothing more is computed: rows, leaves and results that were
under way are ignored. Signatures, the voucher and the roots still count, since they settle the vouched tokens. A last
stage leaves this phase at once: it knows whether there is anything to settle.

It is CUT once the windows to settle are fixed, by the last stage's voucher or by the roots of the stages before.
Everything after those windows is forgotten, and only signatures and roots are missing. Windows are fixed once. The two
ends of a path are always cut before they finish; a middle stage with exactly the windows to settle need not be.

While it is computed the stages sign the roots over its first whole windows again and again, and pass them on: with a
voucher these prefix roots settle what all have signed, although a stage is lost later. They change no phase.

It is FINISHED when every window to settle has both neighbours' signatures and the stage has signed its own roots. It
has FAILED when a rule was broken, a neighbour gave up, or a stop found nothing to settle. Both are final: later
arrivals are ignored, but for the word that concludes a request that was not finished: another order goes on from its
first windows, or they are settled by their prefix roots.

Events are of two kinds. Arrivals (rows, leaf, result, countersignature, voucher, roots, stop, stray) are looked up
before they are read: the phase says whether they are read at all, and a check of the content may still refuse them.
Conclusions of the stage (length known, windows fixed, all signed, given up) are looked up when the stage draws them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from inference.serving.events import Computed, Conclude, Drafted, StageInput, Stop
from proto_specs.types.wire import (
    Countersign,
    Failed,
    OutputLeaf,
    PrefixRoots,
    PromiseFrame,
    RootsFrame,
    Rows,
    Token,
    VoucherFrame,
)


class StagePhase(Enum):
    """How far a request is on a stage."""

    SERVING = "being served"
    FED = "fed"
    STOPPED = "stopped"
    CUT = "cut"
    FINISHED = "finished"
    FAILED = "failed"


class StageEvent(Enum):
    """The events of a request: arrivals first, then conclusions."""

    ROWS = "rows"
    """Rows, or a generated token that is fed back."""
    LEAF = "leaf"
    """The sender's signature over a window of rows."""
    RESULT = "result"
    """The shard's answer to rows, or the drafts for the next ones."""
    COUNTERSIGNATURE = "countersignature"
    """The receiver's signature under our leaf."""
    VOUCHER = "voucher"
    """The client's promise to a last stage; at a first stage, the last stage's call to settle it."""
    PROMISE = "promise"
    """The client's promise to any other stage."""
    ROOTS = "roots"
    """The signed roots of the stages before, over the windows to settle."""
    PREFIX = "prefix roots"
    """The roots of the stages before over the first whole windows, while the request is computed."""
    CONCLUDED = "conclusion"
    """The windows that count are known from outside: the stage has signed their prefix roots, and keeps them."""
    STOP = "stop"
    """The client is gone or does not sign."""
    STRAY = "stray frame"
    """A frame that no stage takes during a request."""
    LENGTH_KNOWN = "other length"
    """The number of positions of the request is known."""
    WINDOWS_FIXED = "other cut"
    """The number of windows to settle is known."""
    ALL_SIGNED = "other end"
    """Every leaf to settle has both signatures, and the roots of the stages before are here."""
    GIVEN_UP = "other failure"
    """A neighbour gives up, a rule is broken, or a stop finds nothing to settle."""


class StageRefusal(Enum):
    """The reasons why a phase does not take an event."""

    IGNORED = "ignored"
    """The event was under way when the phase began; it has no effect."""
    REFUSED = "refused"
    """The other side breaks a rule: the request fails."""
    NEVER = "never"
    """No input leads to the event: it is a bug of ours."""


_IGNORED, _REFUSED, _NEVER = StageRefusal.IGNORED, StageRefusal.REFUSED, StageRefusal.NEVER

COMPUTING = frozenset({StagePhase.SERVING, StagePhase.FED})
"""Phases in which received rows are computed, and results go out under our leaves."""
OVER = frozenset({StagePhase.FINISHED, StagePhase.FAILED})
"""Final phases."""

_OVER_ROW: Mapping[StageEvent, StagePhase | StageRefusal] = {
    StageEvent.ROWS: _IGNORED,
    StageEvent.LEAF: _IGNORED,
    StageEvent.RESULT: _IGNORED,
    StageEvent.COUNTERSIGNATURE: _IGNORED,
    StageEvent.VOUCHER: _IGNORED,
    StageEvent.PROMISE: _IGNORED,
    StageEvent.ROOTS: _IGNORED,
    StageEvent.PREFIX: _IGNORED,
    StageEvent.CONCLUDED: _IGNORED,
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
        StageEvent.PROMISE: StagePhase.SERVING,
        StageEvent.ROOTS: StagePhase.SERVING,
        StageEvent.PREFIX: StagePhase.SERVING,
        StageEvent.CONCLUDED: StagePhase.FINISHED,
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
        StageEvent.PROMISE: StagePhase.FED,
        StageEvent.ROOTS: StagePhase.FED,
        StageEvent.PREFIX: StagePhase.FED,
        StageEvent.CONCLUDED: StagePhase.FINISHED,
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
        StageEvent.PROMISE: StagePhase.STOPPED,
        StageEvent.ROOTS: StagePhase.STOPPED,
        StageEvent.PREFIX: _IGNORED,
        StageEvent.CONCLUDED: StagePhase.FINISHED,
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
        StageEvent.PROMISE: StagePhase.CUT,
        StageEvent.ROOTS: StagePhase.CUT,
        StageEvent.PREFIX: _IGNORED,
        StageEvent.CONCLUDED: StagePhase.FINISHED,
        StageEvent.STOP: _IGNORED,
        StageEvent.STRAY: _REFUSED,
        StageEvent.LENGTH_KNOWN: _NEVER,
        StageEvent.WINDOWS_FIXED: _REFUSED,
        StageEvent.ALL_SIGNED: StagePhase.FINISHED,
        StageEvent.GIVEN_UP: StagePhase.FAILED,
    },
    StagePhase.FINISHED: _OVER_ROW,
    StagePhase.FAILED: {**_OVER_ROW, StageEvent.CONCLUDED: StagePhase.FINISHED},
}


def advance_stage(phase: StagePhase, event: StageEvent) -> StagePhase | StageRefusal:
    """The phase that follows `event` in `phase`, or the refusal. Asserts that the table allows the event."""
    found = STAGE_TABLE[phase][event]
    assert found is not StageRefusal.NEVER, f"{event.name} in phase {phase.name}"
    return found


def classify(event: StageInput) -> StageEvent:
    """The event that an input stands for. `Failed` is the other side's word that it gives the request up."""
    match event:
        case Rows() | Token():
            return StageEvent.ROWS
        case OutputLeaf():
            return StageEvent.LEAF
        case Computed() | Drafted():
            return StageEvent.RESULT
        case Countersign():
            return StageEvent.COUNTERSIGNATURE
        case VoucherFrame():
            return StageEvent.VOUCHER
        case PromiseFrame():
            return StageEvent.PROMISE
        case RootsFrame():
            return StageEvent.ROOTS
        case PrefixRoots():
            return StageEvent.PREFIX
        case Conclude():
            return StageEvent.CONCLUDED
        case Stop():
            return StageEvent.STOP
        case Failed():
            return StageEvent.GIVEN_UP
        case _:
            return StageEvent.STRAY
