"""Inputs and effects of the stage's and the client's state machines. Frozen values; bytes only, no arrays."""

from __future__ import annotations

from dataclasses import dataclass

from inference.serving.record import RequestRecord
from proto_specs.types.calls import Settle
from proto_specs.types.wire import FailureCode, Frame


@dataclass(frozen=True, slots=True)
class Computed:
    """Answers `Compute`: the shard's output rows for the same positions, and the tokens sampled from them.

    `payload` holds wire bytes for the next stage; on the last stage it is empty, `trace` holds the final hidden
    states instead and `tokens` one token for each sampled position.
    """

    start: int
    count: int
    payload: bytes
    trace: bytes
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """The client is gone, has cancelled, or does not sign: settle what it vouched for, or give up."""

    code: FailureCode
    message: str


@dataclass(frozen=True, slots=True)
class Compute:
    """Run the shard over `count` rows from position `start`; the last stage samples from the prompt's last row on."""

    start: int
    count: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class ToUpstream:
    """Send to the stage before (to the client, on the first stage)."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class ToDownstream:
    """Send to the next stage."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class ToClient:
    """Send to the client."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class ToFirst:
    """Send to the first stage of the path (only the last stage does)."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Retain:
    """Write the record to disk before anything that follows: it is what the stage will open when drawn."""

    record: RequestRecord


@dataclass(frozen=True, slots=True)
class SubmitSettlement:
    """Send the settlement to the chain."""

    call: Settle


@dataclass(frozen=True, slots=True)
class StopComputing:
    """No more results are wanted: free the KV memory. What is missing are signatures, and they are soon given up."""


@dataclass(frozen=True, slots=True)
class Finished:
    """Nothing more will come: free the KV memory."""


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The request cannot go on; tell the client and both neighbours, free everything."""

    code: FailureCode
    message: str


StageEffect = (
    Compute
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
    """The code of a `Failed` frame; one we do not know is INTERNAL."""
    return FailureCode(number) if number in tuple(FailureCode) else FailureCode.INTERNAL
