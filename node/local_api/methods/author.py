"""JSON-RPC methods about transactions: author_ and payment_. Submission and removal alone write.

Who submits always learns the transaction's hash, from the result or from the refusal's data, and may submit again: a
transaction that waits already, or is in a block, is a success. So a lost answer is never a lost transaction.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from consensus.runtime.errors import InvalidTransaction, TooLarge
from consensus.runtime.fees import query_fee
from consensus.runtime.system.state import read_params, read_weight_price
from node.local_api.methods.params import Params
from node.local_api.methods.schemas import (
    BOOLEAN,
    BYTES,
    EVIDENCE,
    EXTRINSIC,
    EXTRINSIC_HASH,
    HASH,
    INTEGER,
    OBJECT,
    list_of,
    object_of,
    or_null,
)
from node.local_api.methods.table import NodeView, method, show_bytes
from node.local_api.wire.errors import INVALID_PARAMS, INVALID_TRANSACTION, ApiError
from proto_specs.codec import decode, decode_as, encode
from proto_specs.errors import DecodeError
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import EXTRINSIC_BYTES_MAX
from proto_specs.types.chain import Evidence, Transaction

PENDING_MAX = 1024
PENDING_BYTES_MAX = 4 << 20


@dataclass(frozen=True, slots=True)
class Submission:
    """A transaction somebody submits, and its hash."""

    transaction: Transaction
    extrinsic: bytes
    size_bytes: int


def show_submission(view: NodeView, extrinsic: bytes, outcome: bytes | InvalidTransaction) -> str:
    """The answer to a submission: the hash, also of what waits or is in a block already.

    Raises ApiError with the reason.
    """
    if isinstance(outcome, bytes) or extrinsic in view.pool or view.store.find_extrinsic(extrinsic) is not None:
        return show_bytes(extrinsic)
    data = {"reason": outcome.reason, "extrinsic": show_bytes(extrinsic), **outcome.details}
    raise ApiError(INVALID_TRANSACTION, f"{outcome.reason}: {outcome}", data) from outcome


@method("author_submitExtrinsic", takes=(EXTRINSIC,), gives=HASH, is_submission=True)
def author_submit_extrinsic(view: NodeView, params: Params) -> Submission:
    """Put a signed transaction (canonical bytes as 0x hex) into the pool; its hash. Doing it again changes nothing."""
    data = params.take_extrinsic("extrinsic")
    params.finish()
    return _parse_transaction(data)


@method("author_submitEvidence", takes=(EVIDENCE,), gives=BOOLEAN)
def author_submit_evidence(view: NodeView, params: Params) -> Any:
    """Hand in evidence against a validator (consensus.md); whether it is new here and convicts."""
    data = params.take_evidence("evidence")
    params.finish()
    try:
        return view.report(decode_as(Evidence, data))
    except DecodeError as error:
        raise ApiError(INVALID_PARAMS, f"evidence is not decodable: {error}") from error


@method("author_pendingExtrinsics", gives=list_of(BYTES))
def author_pending_extrinsics(view: NodeView, params: Params) -> Any:
    """Transactions that wait for a block (the first 1024, or 4 MiB), as 0x hex."""
    params.finish()
    found: list[str] = []
    size_bytes = 0
    for one in view.pool:
        encoded = encode(one)
        size_bytes += len(encoded)
        if len(found) == PENDING_MAX or size_bytes > PENDING_BYTES_MAX:
            break
        found.append(show_bytes(encoded))
    return found


@method("author_removeExtrinsic", takes=(EXTRINSIC_HASH,), gives=BOOLEAN)
def author_remove_extrinsic(view: NodeView, params: Params) -> Any:
    """Forget a waiting transaction by its hash; whether there was one. Anybody may submit it again."""
    extrinsic = params.take_hash("extrinsic")
    params.finish()
    return view.pool.remove(extrinsic)


@method("author_extrinsicStatus", takes=(EXTRINSIC_HASH,), gives=or_null(OBJECT), is_bulky=True)
def author_extrinsic_status(view: NodeView, params: Params) -> Any:
    """Where a transaction is: pending, or finalized with height, index and receipt; null when unknown here.

    A block is written in one thread while another answers. The pool follows a block last, so what is finalized for the
    pool is in every later answer; and what waits is looked up first, so it is not missed on its way into the block.
    """
    extrinsic = params.take_hash("extrinsic")
    params.finish()
    is_waiting = extrinsic in view.pool
    location = view.store.find_extrinsic(extrinsic)
    if location is None or location.height > view.pool.height:
        return {"status": "pending"} if is_waiting else None
    receipts = view.store.get_receipts(location.height)
    assert receipts is not None, "blocks are stored with their receipts"
    return {
        "status": "finalized",
        "height": location.height,
        "index": location.index,
        "receipt": view.show(receipts.receipts[location.index]),
    }


@method(
    "payment_queryInfo", takes=(EXTRINSIC,), gives=object_of(bytes=INTEGER, weight=INTEGER, fee=INTEGER, tip=INTEGER)
)
def payment_query_info(view: NodeView, params: Params) -> Any:
    """Size, weight, fee and tip of a transaction (its signature may be zeros), exact for the next block."""
    one = _parse_transaction(params.take_extrinsic("extrinsic"))
    params.finish()
    info = query_fee(view.store, one.transaction)
    return {"bytes": info.size_bytes, "weight": info.weight, "fee": info.fee, "tip": info.tip}


@method(
    "payment_queryFeeDetails",
    takes=(EXTRINSIC,),
    gives=object_of(
        base=INTEGER,
        bytes=INTEGER,
        bytePrice=INTEGER,
        byteFee=INTEGER,
        weight=INTEGER,
        weightPrice=INTEGER,
        weightFee=INTEGER,
        fee=INTEGER,
        tip=INTEGER,
    ),
)
def payment_query_fee_details(view: NodeView, params: Params) -> Any:
    """What the fee of a transaction is made of, exact for the next block: base + byteFee + weightFee = fee."""
    one = _parse_transaction(params.take_extrinsic("extrinsic"))
    params.finish()
    info, prices = query_fee(view.store, one.transaction), read_params(view.store)
    weight_price = read_weight_price(view.store)
    return {
        "base": prices.fee_base,
        "bytes": info.size_bytes,
        "bytePrice": prices.byte_price,
        "byteFee": info.size_bytes * prices.byte_price,
        "weight": info.weight,
        "weightPrice": weight_price,
        "weightFee": info.weight * weight_price,
        "fee": info.fee,
        "tip": info.tip,
    }


def _parse_transaction(data: bytes) -> Submission:
    """A transaction's hash is that of its canonical bytes, and bytes that are none have one too. Raises ApiError."""
    extrinsic = hash_tagged(Tag.EXTRINSIC, data)
    known = {"extrinsic": show_bytes(extrinsic)}
    if len(data) > EXTRINSIC_BYTES_MAX:
        text = f"TooLarge: {len(data)} bytes, {EXTRINSIC_BYTES_MAX} are allowed"
        raise ApiError(INVALID_TRANSACTION, text, {"reason": TooLarge.reason, **known, "bytes": len(data)})
    try:
        return Submission(decode(Transaction, data), extrinsic, len(data))
    except DecodeError as error:
        raise ApiError(INVALID_TRANSACTION, f"no transaction: {error}", {"reason": "DecodeError", **known}) from error
