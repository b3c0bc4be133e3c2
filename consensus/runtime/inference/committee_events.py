"""What the runtime tells of committees, of withheld stages and of the deposits for verification."""

from __future__ import annotations

from proto_specs.codec import U8, U16, U32, U64, variant
from proto_specs.types.common import AccountId, Balance, Hash32, PublicKey


@variant(0x0440)
class WorkerCharged:
    """A drawn stage was not opened. amount = bounty (to those who found it) + burned, out of the worker's bond."""

    worker: PublicKey
    operator: AccountId
    request: Hash32
    stage: U8
    amount: Balance
    bounty: Balance
    burned: Balance


@variant(0x0441)
class VerifierMissed:
    """The verifier revealed what no verdict could count: it has `points` now, and `burned` of its stake is gone."""

    challenge: Hash32
    verifier: AccountId
    points: U16
    burned: Balance


@variant(0x0442)
class DrawPostponed:
    """Too few verifiers have a free seat: the committee of a drawn stage is drawn in block `height`."""

    challenge: Hash32
    request: Hash32
    stage: U8
    tries: U16
    height: U64


@variant(0x0443)
class DepositForfeited:
    """A stage ended without a verdict: its settler's deposit went to the verification pool."""

    request: Hash32
    stage: U8
    settler: AccountId
    amount: Balance


@variant(0x0444)
class VerifierLeaving:
    """The verifier is drawn for the model until block `height`."""

    model: Hash32
    operator: AccountId
    height: U64


@variant(0x0445)
class VerifierLeft:
    """The verifier is drawn for the model no more."""

    model: Hash32
    operator: AccountId


@variant(0x0446)
class DeadlinesMoved:
    """Blocks were full: members commit and reveal until these blocks. `blocks` is by how much both are later."""

    challenge: Hash32
    commit_deadline: U64
    reveal_deadline: U64
    blocks: U32


CommitteeEvent = (
    WorkerCharged | VerifierMissed | DrawPostponed | DepositForfeited | VerifierLeaving | VerifierLeft | DeadlinesMoved
)
