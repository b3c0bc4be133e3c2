"""Inputs and effects of a stage's state machine. Frozen values; bytes only, no arrays.

`answered_by` of an effect names the inputs of this stage that answer it: those that come because it was carried out.
For a sent frame, they are the frames that the other side sends back; an empty tuple means that nothing answers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

from inference.serving.record import RequestRecord
from proto_specs.types.calls import Settle
from proto_specs.types.sampling import TokenLogprob
from proto_specs.types.wire import (
    Countersign,
    FailureCode,
    Frame,
    RootsFrame,
    Rows,
    Token,
    VoucherFrame,
)


@dataclass(frozen=True, slots=True)
class DrawnToken:
    """A token drawn by the order's rules. `is_end`: the generation ends with it, as the model or a stop string says.

    `logprobs` are the token's own and then those of the likeliest, as many as the order asks for.
    """

    token: int
    is_end: bool
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Computed:
    """Answers `Compute`: the shard's output rows for the same positions, and the tokens sampled from them.

    `payload` holds wire bytes for the next stage; on the last stage it is empty, `trace` holds the final hidden
    states instead and `tokens` one token for each sampled position. `prompt_logprobs` has an entry for each of the
    positions from `start` on that a prompt's token follows, when the order asks for them.

    `draft`: what the last rows were drafted from, as in `Compute`. The last stage has none: it answers the rows that
    stand. The last `unsound` rows, drafted ones, could not be sent as they are: they must not stand.
    """

    start: int
    count: int
    payload: bytes
    trace: bytes
    tokens: tuple[DrawnToken, ...]
    prompt_logprobs: tuple[tuple[TokenLogprob, ...], ...] = ()
    draft: tuple[int, ...] = ()
    unsound: int = 0


@dataclass(frozen=True, slots=True)
class Drafted:
    """Answers `Speculate`: token ids that may follow the newest one, none or as many as there is room for."""

    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """The client is gone, has cancelled, or does not sign: settle the vouched tokens, or give up."""

    code: FailureCode
    message: str


@dataclass(frozen=True, slots=True)
class Conclude:
    """Another order goes on from here, or none came in time: the first `windows` windows are all that counts.

    `settlement`: this stage submits it. Without windows nothing is kept.
    """

    windows: int
    settlement: Settle | None = None


StageInput: TypeAlias = Frame | Computed | Drafted | Stop | Conclude

Answers: TypeAlias = tuple[type[StageInput], ...]


@dataclass(frozen=True, slots=True)
class Compute:
    """Run the shard over `count` rows from position `start`; the last stage samples from the prompt's last row on.

    The last rows are of the tokens of `draft`. What is computed next may start at any of them: from there on they are
    forgotten.
    """

    answered_by: ClassVar[Answers] = (Computed,)

    start: int
    count: int
    payload: bytes
    draft: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptKnown:
    """On a first stage that drafts: the prompt's tokens, before the first `Speculate`. Nothing answers."""

    answered_by: ClassVar[Answers] = ()

    prompt: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Speculate:
    """Draft at most `room` tokens that may follow. `drawn` are the tokens that came since this was asked last."""

    answered_by: ClassVar[Answers] = (Drafted,)

    drawn: tuple[int, ...]
    room: int


@dataclass(frozen=True, slots=True)
class Rewind:
    """Forget the KV memory from `position` on: what follows differs from what the order before had there.

    Nothing answers.
    """

    answered_by: ClassVar[Answers] = ()

    position: int


@dataclass(frozen=True, slots=True)
class ToUpstream:
    """Send to the stage before; on the first stage, to the client. Nothing answers: it carries countersignatures."""

    answered_by: ClassVar[Answers] = ()

    frame: Frame


@dataclass(frozen=True, slots=True)
class ToDownstream:
    """Send to the next stage. Its countersignature answers a leaf; nothing answers rows, roots and failures.

    The roots of a prefix are answered by nothing either: they go on to the client.
    """

    answered_by: ClassVar[Answers] = (Countersign,)

    frame: Frame


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send to the client. Its countersignature answers a leaf, a voucher answers tokens, nothing answers failures."""

    answered_by: ClassVar[Answers] = (Countersign, VoucherFrame)

    frame: Frame


@dataclass(frozen=True, slots=True)
class ToFirst:
    """Send to the first stage of the path; only the last stage does.

    A token is answered by its rows and the voucher by roots, both through the whole path. On a path with a single stage
    the token itself comes back, and no voucher is sent.
    """

    answered_by: ClassVar[Answers] = (Rows, RootsFrame, Token)

    frame: Frame


@dataclass(frozen=True, slots=True)
class Retain:
    """Write the record to disk before the effects that follow: the stage opens it if a challenge draws the request.

    Nothing answers: when the disk fails, the shell gives the request up.
    """

    answered_by: ClassVar[Answers] = ()

    record: RequestRecord


@dataclass(frozen=True, slots=True)
class SubmitSettlement:
    """Send the settlement to the chain. Nothing answers: the request ends with it."""

    answered_by: ClassVar[Answers] = ()

    call: Settle


@dataclass(frozen=True, slots=True)
class StopComputing:
    """Free the KV memory: no more results are wanted. The missing signatures come soon, or the request is given up.

    Nothing answers.
    """

    answered_by: ClassVar[Answers] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """Free the KV memory: the request is over. Nothing answers."""

    answered_by: ClassVar[Answers] = ()


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The request cannot go on: tell the client and both neighbours, free everything. Nothing answers.

    `lost`: the stage of the path that is gone, if that is why.
    """

    answered_by: ClassVar[Answers] = ()

    code: FailureCode
    message: str
    lost: int | None = None


StageEffect: TypeAlias = (
    Compute
    | Rewind
    | PromptKnown
    | Speculate
    | ToUpstream
    | ToDownstream
    | ToClient
    | ToFirst
    | Retain
    | SubmitSettlement
    | StopComputing
    | Finished
    | GiveUp
)


def read_failure_code(number: int) -> FailureCode:
    """The code of a `Failed` frame; an unknown code is INTERNAL."""
    return FailureCode(number) if number in tuple(FailureCode) else FailureCode.INTERNAL
