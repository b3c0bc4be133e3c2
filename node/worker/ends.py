"""What follows on a worker when a request ends before its time, by the code of the failure."""

from __future__ import annotations

from typing import Final

from inference.errors import DecodingError, ModelError, WireDtypeError
from inference.serving.events import Conclude, GiveUp
from inference.serving.stage import StageRequest
from node.client.link import make_failed
from proto_specs.types.wire import Failed, FailureCode

HOLD_S: Final = 20.0
"""How long a request that lost a stage keeps its memory for an order that goes on from it."""
HOLDING_CODES: Final = frozenset(
    {
        FailureCode.NEIGHBOUR_LOST,
        FailureCode.MOVED,
        FailureCode.INTERNAL,
        FailureCode.BAD_INPUT,
        FailureCode.LEAVING,
    }
)
"""Failures after which the client may go on with other workers."""
OWN_CODES: Final = frozenset({FailureCode.LEAVING, FailureCode.INTERNAL, FailureCode.NO_CAPACITY})
"""Failures of the stage that gives up. It names itself: the others pass its word on, and theirs may come first."""
STOP_CODES: Final = frozenset({FailureCode.CANCELLED, FailureCode.UNVOUCHED, FailureCode.NO_ESCROW})
"""Failures that are the client's fault: what it vouched for is settled before the request ends."""


def get_hold_s(code: FailureCode, is_own: bool = False) -> float:
    """Seconds that a given up request waits for an order that goes on from it. A worker that leaves waits for none."""
    is_leaver = is_own and code is FailureCode.LEAVING
    return HOLD_S if code in HOLDING_CODES and not is_leaver else 0.0


def name_lost(code: FailureCode, lost: int | None, stage: int) -> int | None:
    """The stage to blame, as this stage tells it: itself, where the failure is its own and names no other."""
    return stage if lost is None and code in OWN_CODES else lost


def classify_error(error: ModelError) -> FailureCode:
    """Whose fault it is that rows could not be computed."""
    match error:
        case DecodingError():
            return FailureCode.BAD_ORDER
        case WireDtypeError():
            return FailureCode.BAD_INPUT
        case _:
            return FailureCode.INTERNAL


def make_farewells(request: bytes, reason: GiveUp, lost: int | None, stage: int) -> tuple[Failed, Failed]:
    """What the others hear of a failure, and what the next stage hears.

    Along the path a stop means something else: it asks for signatures, which this stage does not give any more.
    """
    told = make_failed(request, reason.code, reason.message, lost)
    if reason.code not in STOP_CODES:
        return told, told
    return told, make_failed(request, FailureCode.NEIGHBOUR_LOST, reason.message, stage)


def conclude_alone(machine: StageRequest, *, is_last: bool) -> Conclude:
    """What counts of a request that no other order goes on from: on a last stage, what all have signed is settled."""
    settlement = machine.get_settlement() if is_last else None
    if settlement is not None and not settlement.voucher.voucher.tokens:
        settlement = None  # no tokens, no charge
    windows = machine.prefix_windows if settlement is None else settlement.stage_roots[0].roots.windows
    return Conclude(windows, settlement)
