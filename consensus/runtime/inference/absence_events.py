"""What the absence and return of workers tells."""

from __future__ import annotations

from proto_specs.codec import variant
from proto_specs.types.common import AccountId, Balance, PublicKey


@variant(0x041F)
class WorkerReported:
    """A verifier says that the worker answers no probe: `reported` of `total` stake say so now."""

    worker: PublicKey
    verifier: AccountId
    reported: Balance
    total: Balance


@variant(0x0420)
class WorkerAbsent:
    """The worker is in no path from now on: a quorum of verifiers reported it, or its operator did."""

    worker: PublicKey
    operator: AccountId


@variant(0x0421)
class WorkerReturned:
    """An absent worker announced itself again."""

    worker: PublicKey
    operator: AccountId


AbsenceEvent = WorkerReported | WorkerAbsent | WorkerReturned
