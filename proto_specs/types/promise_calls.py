"""Calls about what a client promised: settling what some stages hold, and evidence that it promised twice."""

from __future__ import annotations

from typing import Annotated

from proto_specs import limits
from proto_specs.codec import Max, variant
from proto_specs.types.common import Signature
from proto_specs.types.request import SignedOrder, SignedStageRoots, SignedVoucher
from proto_specs.types.statement import Statement
from proto_specs.types.sum_tree import StatementPlace


@variant(0x0410)
class JoinSettlement:
    """Settle what some stages of a request hold, or add it to a settlement that can still be joined.

    `stage_roots` are in path order, each stage's over its own positions; each names its stage. `voucher` counts if it
    is for more tokens than the one that was settled, or as many and final.
    """

    order: SignedOrder
    voucher: SignedVoucher | None
    stage_roots: Annotated[tuple[SignedStageRoots, ...], Max(limits.STAGES_MAX)]


@variant(1)
class PromisedByOrder:
    """Another order under the session key."""

    order: SignedOrder


@variant(2)
class PromisedByStatement:
    """A statement under the session key; its workers need not have signed. `place` shows one of its requests.

    Without a place the order has to be over another path than the statement, and so none of its requests.
    """

    statement: Statement
    client_signature: Signature
    place: StatementPlace | None


@variant(0x0411)
class ReportDoublePromise:
    """One session key promised one sequence number, or one position of the deposit, twice.

    `order` is the one that was not paid; `voucher` says how much its client owes for it, and may be left out.
    """

    order: SignedOrder
    voucher: SignedVoucher | None
    other: PromisedByOrder | PromisedByStatement


PromiseCall = JoinSettlement | ReportDoublePromise
