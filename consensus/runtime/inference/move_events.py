"""What the move of a worker tells."""

from __future__ import annotations

from proto_specs.codec import U16, U64, variant
from proto_specs.types.common import AccountId, PublicKey


@variant(0x0422)
class WorkerMoved:
    """The worker holds [start, end) from now on; what ran over its old range settles before `until`."""

    worker: PublicKey
    operator: AccountId
    start: U16
    end: U16
    until: U64
