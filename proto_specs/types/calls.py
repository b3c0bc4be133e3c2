"""Every call a transaction can make: one variant each, tagged module * 256 + method."""

from __future__ import annotations

import enum
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U16, U32, U64, Max, record, variant
from proto_specs.types.common import AccountId, Balance, Hash32, PublicKey, Signature
from proto_specs.types.promise_calls import PromiseCall
from proto_specs.types.request import Leaf, SignedOrder, SignedStageRoots, SignedVoucher
from proto_specs.types.statement import SignedStatement
from proto_specs.types.verdict_calls import CommitVerdict as CommitVerdict
from proto_specs.types.verdict_calls import RegisterVerifier as RegisterVerifier
from proto_specs.types.verdict_calls import RevealVerdict as RevealVerdict
from proto_specs.types.verdict_calls import UnregisterVerifier as UnregisterVerifier


class ModuleIndex(enum.IntEnum):
    """Runtime modules by their number in call tags and error codes."""

    SYSTEM = 1
    BALANCES = 2
    STAKING = 3
    INFERENCE = 4
    PARAMS = 5
    UTILITY = 6
    MULTISIG = 7


class Outcome(enum.IntEnum):
    """A verifier's finding (DESIGN 5.6)."""

    PASS = 0
    FAIL = 1
    UNAVAILABLE = 2
    INCONCLUSIVE = 3


@variant(0x0101)
class Remark:
    """Put bytes on chain, to no effect."""

    data: Annotated[bytes, Max(1024)]


@variant(0x0201)
class Transfer:
    """Move `amount` nmyl to `dest`; the signer keeps at least the existential deposit or nothing."""

    dest: AccountId
    amount: Balance


@variant(0x0202)
class TransferAll:
    """Move the whole free balance to `dest`; with `keep_alive` the signer keeps the existential deposit."""

    dest: AccountId
    keep_alive: bool


@variant(0x0301)
class Bond:
    """Lock `amount` as the signer's own stake."""

    amount: Balance


@variant(0x0302)
class Unbond:
    """Start releasing `amount` of stake; it can be withdrawn after the unbonding period."""

    amount: Balance


@variant(0x0303)
class WithdrawUnbonded:
    """Release every unbonding chunk that has matured."""


@variant(0x0304)
class RegisterValidator:
    """Stand for election under `consensus_key`, which signs the signer's account as proof of possession."""

    consensus_key: PublicKey
    key_proof: Signature


@variant(0x0305)
class Delegate:
    """Put `amount` of free balance behind a validator, named by its operator's account."""

    validator: AccountId
    amount: Balance


@variant(0x0306)
class Undelegate:
    """Start releasing `amount` from behind a validator; it can be withdrawn after the unbonding period."""

    validator: AccountId
    amount: Balance


@variant(0x0307)
class Redelegate:
    """Move `amount` from behind one validator to another at once; it stays liable for the first one's past."""

    source: AccountId
    dest: AccountId
    amount: Balance


@variant(0x0308)
class ClaimRewards:
    """Pay out what the signer's delegation to a validator has earned."""

    validator: AccountId


@variant(0x0309)
class SetCommission:
    """The share of its delegators' rewards that the signer's validator keeps, from the next epoch on."""

    commission_permille: U16


@variant(0x030A)
class Unjail:
    """Stand for election again after a jail term."""


@variant(0x030B)
class RetireValidator:
    """Stand for election no more, from the next epoch end on."""


@variant(0x0401)
class RegisterModel:
    """Put a model's manifest (canonical bytes) on chain; its hash is the model id."""

    manifest: Annotated[bytes, Max(limits.MANIFEST_BYTES_MAX)]


@variant(0x0402)
class RegisterWorker:
    """Bond and announce a worker for layers [start, end) of a model.

    `worker_key` signs the signer's account as proof of possession; prices are nmyl per layer and token.
    """

    model: Hash32
    start: U16
    end: U16
    bond: Balance
    worker_key: PublicKey
    key_proof: Signature
    peer_id: Annotated[str, Max(limits.PEER_ID_BYTES_MAX)]
    addresses: Annotated[tuple[Annotated[str, Max(limits.ADDRESS_BYTES_MAX)], ...], Max(limits.WORKER_ADDRESSES_MAX)]
    prefill_price: Balance
    decode_price: Balance


@variant(0x0403)
class UpdateWorker:
    """Announce one's own worker anew: where it is reached and what it asks. One that was absent is active again."""

    worker_key: PublicKey
    peer_id: Annotated[str, Max(limits.PEER_ID_BYTES_MAX)]
    addresses: Annotated[tuple[Annotated[str, Max(limits.ADDRESS_BYTES_MAX)], ...], Max(limits.WORKER_ADDRESSES_MAX)]
    prefill_price: Balance
    decode_price: Balance


@variant(0x040F)
class MoveWorker:
    """Hold layers [start, end) of the same model instead: of a worker of one's own with nothing unresolved."""

    worker_key: PublicKey
    start: U16
    end: U16


@variant(0x0404)
class RetireWorker:
    """Take no more work; the bond is released after the unbonding period when nothing is unresolved."""

    worker_key: PublicKey


@variant(0x040D)
class LeaveWorker:
    """Say that one's own worker goes: it is absent, and in no path, until `UpdateWorker` announces it again."""

    worker_key: PublicKey


@variant(0x040E)
class ReportAbsent:
    """An elected verifier of its model says that a worker answers no probe."""

    worker_key: PublicKey


@variant(0x0406)
class OpenSession:
    """Escrow `deposit` for requests to `model`, signed by `session_key`, at most `max_price` per layer and token.

    The session closes by itself when `requests_max` requests have been settled and resolved.
    """

    model: Hash32
    session_key: PublicKey
    max_price: Balance
    deposit: Balance
    requests_max: U32


@variant(0x040C)
class TopUpSession:
    """Add `amount` to the deposit of an open session of one's own."""

    session: Hash32
    amount: Balance


@variant(0x0407)
class CloseSession:
    """Start the notice period after which what is left of the escrow returns to the client."""

    session: Hash32


@variant(0x0408)
class Settle:
    """Commit a finished request: the order, the last voucher, and every stage's signed roots over its leaves."""

    order: SignedOrder
    voucher: SignedVoucher
    stage_roots: Annotated[tuple[SignedStageRoots, ...], Max(limits.STAGES_MAX)]


@variant(0x0418)
class SettleStatement:
    """Commit many finished requests of a session at once: totals that the client and every stage of the path signed."""

    statement: SignedStatement


@variant(0x040B)
class ReportEquivocation:
    """Two different leaves for one slot under one worker key, as sender (`is_output`) or as receiver of the window."""

    worker: PublicKey
    is_output: bool
    first: Leaf
    first_signature: Signature
    second: Leaf
    second_signature: Signature


@record
class ParamChange:
    """A protocol constant by name, `MODULE.FIELD` as in the chain spec, and its new value."""

    name: Annotated[str, Max(limits.PARAM_NAME_BYTES_MAX)]
    value: U64


@variant(0x0501)
class ProposeParams:
    """An elected validator's operator puts changes to the vote, all of which happen or none."""

    changes: Annotated[tuple[ParamChange, ...], Max(limits.PARAM_CHANGES_MAX)]


@variant(0x0502)
class VoteParams:
    """An elected validator's operator approves or rejects an open proposal; the last vote counts."""

    proposal: U64
    approve: bool


BasicCall = (
    Remark
    | Transfer
    | TransferAll
    | Bond
    | Unbond
    | WithdrawUnbonded
    | RegisterValidator
    | Delegate
    | Undelegate
    | Redelegate
    | ClaimRewards
    | SetCommission
    | Unjail
    | RetireValidator
    | RegisterModel
    | RegisterWorker
    | UpdateWorker
    | MoveWorker
    | RetireWorker
    | LeaveWorker
    | ReportAbsent
    | RegisterVerifier
    | UnregisterVerifier
    | OpenSession
    | TopUpSession
    | CloseSession
    | Settle
    | PromiseCall
    | SettleStatement
    | CommitVerdict
    | RevealVerdict
    | ReportEquivocation
    | ProposeParams
    | VoteParams
)
"""Every call that holds no other call."""


@variant(0x0601)
class BatchAll:
    """Run the calls in order; when one fails, none of them has happened and this call fails with its error."""

    calls: Annotated[tuple[BasicCall, ...], Max(limits.BATCH_CALLS_MAX)]


@variant(0x0602)
class BatchEach:
    """Run the calls in order; one that fails is undone alone and told by an event."""

    calls: Annotated[tuple[BasicCall, ...], Max(limits.BATCH_CALLS_MAX)]


MultisigCall = BasicCall | BatchAll | BatchEach
"""The calls that a multisig account can make. It cannot approve for another multisig, since it never signs."""


@variant(0x0701)
class AsMulti:
    """Approve `call` for the account of `threshold` out of signer and `others`; run it with the last approval.

    `opened_height` is the block in which the operation was opened, None to open it: a late approval of what has run
    already cannot open it anew.
    """

    threshold: U16
    others: Annotated[tuple[AccountId, ...], Max(limits.MULTISIG_SIGNATORIES_MAX)]
    opened_height: U64 | None
    call: MultisigCall


@variant(0x0702)
class ApproveAsMulti:
    """Approve a call by its hash alone; the last approval has to be `AsMulti` with the call itself."""

    threshold: U16
    others: Annotated[tuple[AccountId, ...], Max(limits.MULTISIG_SIGNATORIES_MAX)]
    opened_height: U64 | None
    call_hash: Hash32


@variant(0x0703)
class CancelAsMulti:
    """Withdraw an operation that has not run, by whoever opened it; the deposit returns."""

    threshold: U16
    others: Annotated[tuple[AccountId, ...], Max(limits.MULTISIG_SIGNATORIES_MAX)]
    opened_height: U64
    call_hash: Hash32


Call = BasicCall | BatchAll | BatchEach | AsMulti | ApproveAsMulti | CancelAsMulti
