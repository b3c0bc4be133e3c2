"""The JSON-RPC methods, one function each, in one table. They read the head; author_submitExtrinsic alone writes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from consensus.runtime.balances.state import read_account
from consensus.runtime.errors import InvalidTransaction
from consensus.runtime.fees import query_fee
from consensus.runtime.inference import queries
from genesis.spec import ChainSpec
from node.api.errors import INVALID_TRANSACTION, ApiError
from node.api.params import Params
from node.chain.pool import TransactionPool
from node.store.chain_store import ChainStore
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError
from proto_specs.jsonform import to_json
from proto_specs.types.chain import RUNTIME_VERSION, Transaction, compute_block_hash

NODE_NAME = "myelin"
NODE_VERSION = "0.1.0"
PAGE_ITEMS_MAX = 256
PENDING_MAX = 1024


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the methods read."""

    spec: ChainSpec
    store: ChainStore
    pool: TransactionPool

    def show(self, value: Any) -> Any:
        """A record as JSON."""
        return to_json(value, self.spec.ss58_prefix)


Method = Callable[[NodeView, Params], Any]
METHODS: dict[str, Method] = {}


def method(name: str) -> Callable[[Method], Method]:
    """Register a method under its public name."""

    def register(function: Method) -> Method:
        assert name not in METHODS, f"{name} is registered twice"
        METHODS[name] = function
        return function

    return register


def call_method(view: NodeView, name: str, raw: list[Any]) -> Any:
    """The result of a method. Raises ApiError."""
    function = METHODS[name]
    params = Params(raw, view.spec.ss58_prefix)
    return function(view, params)


def _hex(data: bytes) -> str:
    return f"0x{data.hex()}"


def _found(value: Any, view: NodeView) -> Any:
    return None if value is None else view.show(value)


# system_, rpc_ ------------------------------------------------------------------------------------------------


@method("rpc_methods")
def rpc_methods(view: NodeView, params: Params) -> Any:
    """Names of all methods."""
    params.finish()
    return {"methods": sorted(METHODS)}


@method("system_name")
def system_name(view: NodeView, params: Params) -> Any:
    """Name of the software."""
    params.finish()
    return NODE_NAME


@method("system_version")
def system_version(view: NodeView, params: Params) -> Any:
    """Version of the software."""
    params.finish()
    return NODE_VERSION


@method("system_chain")
def system_chain(view: NodeView, params: Params) -> Any:
    """Name of the chain."""
    params.finish()
    return view.spec.name


@method("system_properties")
def system_properties(view: NodeView, params: Params) -> Any:
    """How to show addresses and amounts."""
    params.finish()
    interval = view.spec.block_interval_ms
    return {
        "ss58Format": view.spec.ss58_prefix,
        "tokenDecimals": 9,
        "tokenSymbol": "MYL",
        "blockIntervalMs": interval,
    }


@method("system_health")
def system_health(view: NodeView, params: Params) -> Any:
    """Height and waiting transactions."""
    params.finish()
    head = view.store.get_head()
    return {"height": head.height, "timeMs": head.time_ms, "pending": len(view.pool)}


@method("system_accountNextIndex")
def system_account_next_index(view: NodeView, params: Params) -> Any:
    """The next nonce of an account, counting what waits in the pool."""
    account = params.take_account("account")
    params.finish()
    return view.pool.get_next_nonce(account)


@method("system_account")
def system_account(view: NodeView, params: Params) -> Any:
    """Nonce, free and reserved balance of an account."""
    account = params.take_account("account")
    params.finish()
    return view.show(read_account(view.store, account))


# chain_ -------------------------------------------------------------------------------------------------------


def _take_height(view: NodeView, params: Params) -> int:
    height = params.take_optional_height("height")
    return view.store.get_head().height if height is None else height


@method("chain_getHeader")
def chain_get_header(view: NodeView, params: Params) -> Any:
    """Header of a finalized block by height (the last one by default), with its hash; null when there is none."""
    height = _take_height(view, params)
    params.finish()
    block = view.store.get_block(height)
    if block is None:
        return {"height": 0, "hash": _hex(view.store.genesis_hash)} if height == 0 else None
    return {**view.show(block.header), "hash": _hex(compute_block_hash(block.header))}


@method("chain_getBlock")
def chain_get_block(view: NodeView, params: Params) -> Any:
    """A finalized block by height, its hash and commit; null when there is none."""
    height = _take_height(view, params)
    params.finish()
    block, commit = view.store.get_block(height), view.store.get_commit(height)
    if block is None:
        return None
    return {"hash": _hex(compute_block_hash(block.header)), "block": view.show(block), "commit": _found(commit, view)}


@method("chain_getBlockHash")
def chain_get_block_hash(view: NodeView, params: Params) -> Any:
    """Hash of a finalized block by height; the genesis hash for 0."""
    height = _take_height(view, params)
    params.finish()
    found = view.store.get_block_hash(height)
    return None if found is None else _hex(found)


@method("chain_getFinalizedHead")
def chain_get_finalized_head(view: NodeView, params: Params) -> Any:
    """Hash of the last finalized block."""
    params.finish()
    return _hex(view.store.get_head().block_hash)


@method("chain_getReceipts")
def chain_get_receipts(view: NodeView, params: Params) -> Any:
    """Receipts and events of a finalized block by height; null when there is none."""
    height = _take_height(view, params)
    params.finish()
    return _found(view.store.get_receipts(height), view)


# state_ -------------------------------------------------------------------------------------------------------


@method("state_getStorage")
def state_get_storage(view: NodeView, params: Params) -> Any:
    """Canonical bytes under a state key; null when there are none."""
    key = params.take_key("key")
    params.finish()
    found = view.store.get(key)
    return None if found is None else _hex(found)


@method("state_getPairs")
def state_get_pairs(view: NodeView, params: Params) -> Any:
    """Up to 256 [key, value] under a prefix, in order, after `start`."""
    prefix = params.take_key("prefix")
    start = params.take_optional_key("start")
    params.finish()
    pairs: list[list[str]] = []
    for key, value in view.store.iterate(prefix, start or b""):
        if key != start:
            pairs.append([_hex(key), _hex(value)])
        if len(pairs) == PAGE_ITEMS_MAX:
            break
    return pairs


@method("state_getReadProof")
def state_get_read_proof(view: NodeView, params: Params) -> Any:
    """Value, Merkle proof and root of a state key under the last finalized header."""
    key = params.take_key("key")
    params.finish()
    head, value = view.store.get_head(), view.store.get(key)
    return {
        "height": head.height,
        "stateRoot": _hex(head.state_root),
        "value": None if value is None else _hex(value),
        "proof": _hex(encode(view.store.prove(key))),
    }


@method("state_getRuntimeVersion")
def state_get_runtime_version(view: NodeView, params: Params) -> Any:
    """Version that transactions are signed for."""
    params.finish()
    return {"specName": NODE_NAME, "specVersion": RUNTIME_VERSION}


# author_, payment_ --------------------------------------------------------------------------------------------


def _decode_transaction(data: bytes) -> Transaction:
    try:
        return decode(Transaction, data)
    except DecodeError as error:
        raise ApiError(INVALID_TRANSACTION, f"no transaction: {error}", {"reason": "DecodeError"}) from error


@method("author_submitExtrinsic")
def author_submit_extrinsic(view: NodeView, params: Params) -> Any:
    """Put a signed transaction (canonical bytes as 0x hex) into the pool; its hash."""
    transaction = _decode_transaction(params.take_extrinsic("extrinsic"))
    params.finish()
    try:
        return _hex(view.pool.submit(transaction))
    except InvalidTransaction as error:
        data = {"reason": error.reason, **error.details}
        raise ApiError(INVALID_TRANSACTION, f"{error.reason}: {error}", data) from error


@method("author_pendingExtrinsics")
def author_pending_extrinsics(view: NodeView, params: Params) -> Any:
    """Transactions that wait for a block (at most 1024), as 0x hex."""
    params.finish()
    return [_hex(encode(one)) for one, _ in zip(view.pool, range(PENDING_MAX), strict=False)]


@method("author_extrinsicStatus")
def author_extrinsic_status(view: NodeView, params: Params) -> Any:
    """Where a transaction is: pending, or finalized with height, index and receipt; null when unknown here."""
    extrinsic = params.take_hash("extrinsic")
    params.finish()
    location = view.store.find_extrinsic(extrinsic)
    if location is None:
        return {"status": "pending"} if extrinsic in view.pool else None
    receipts = view.store.get_receipts(location.height)
    assert receipts is not None, "blocks are stored with their receipts"
    return {
        "status": "finalized",
        "height": location.height,
        "index": location.index,
        "receipt": view.show(receipts.receipts[location.index]),
    }


@method("payment_queryInfo")
def payment_query_info(view: NodeView, params: Params) -> Any:
    """Size, weight, fee and tip of a transaction (its signature may be zeros), exact for the next block."""
    transaction = _decode_transaction(params.take_extrinsic("extrinsic"))
    params.finish()
    info = query_fee(view.store, transaction)
    return {"bytes": info.size_bytes, "weight": info.weight, "fee": info.fee, "tip": info.tip}


# staking_, inference_ -----------------------------------------------------------------------------------------


@method("staking_validators")
def staking_validators(view: NodeView, params: Params) -> Any:
    """The validators that decide the next block."""
    params.finish()
    return view.show(view.store.get_head().validators)["members"]


@method("inference_params")
def inference_params(view: NodeView, params: Params) -> Any:
    """Parameters of the inference module."""
    params.finish()
    return view.show(queries.read_params(view.store))


@method("inference_models")
def inference_models(view: NodeView, params: Params) -> Any:
    """Registered models."""
    params.finish()
    return [{"model": _hex(key), **view.show(found)} for key, found in queries.list_models(view.store)]


@method("inference_model")
def inference_model(view: NodeView, params: Params) -> Any:
    """The manifest of a model; null when it is not registered."""
    model = params.take_hash("model")
    params.finish()
    return _found(queries.read_manifest(view.store, model), view)


@method("inference_workers")
def inference_workers(view: NodeView, params: Params) -> Any:
    """Bonded workers of a model."""
    model = params.take_hash("model")
    params.finish()
    return [{"worker": _hex(key), **view.show(found)} for key, found in queries.list_workers(view.store, model)]


@method("inference_worker")
def inference_worker(view: NodeView, params: Params) -> Any:
    """A worker by its key; null when there is none."""
    worker = params.take_hash("worker")
    params.finish()
    return _found(queries.read_worker(view.store, worker), view)


@method("inference_verifiers")
def inference_verifiers(view: NodeView, params: Params) -> Any:
    """Accounts registered to verify a model."""
    model = params.take_hash("model")
    params.finish()
    from_account = {member.operator: member for member in view.store.get_head().validators.members}
    found = queries.list_verifiers(view.store, model)
    return [view.show(from_account[one]) for one in found if one in from_account]


@method("inference_session")
def inference_session(view: NodeView, params: Params) -> Any:
    """A session by its id; null when there is none."""
    session = params.take_hash("session")
    params.finish()
    return _found(queries.read_session(view.store, session), view)


@method("inference_sessions")
def inference_sessions(view: NodeView, params: Params) -> Any:
    """Sessions of a client's account."""
    account = params.take_account("account")
    params.finish()
    return [{"session": _hex(key), **view.show(found)} for key, found in queries.list_sessions(view.store, account)]


@method("inference_requests")
def inference_requests(view: NodeView, params: Params) -> Any:
    """Settled requests of a session, as [sequence, request id]."""
    session = params.take_hash("session")
    params.finish()
    return [[sequence, _hex(request)] for sequence, request in queries.list_requests(view.store, session)]


@method("inference_request")
def inference_request(view: NodeView, params: Params) -> Any:
    """A settled request by its id; null when there is none."""
    request = params.take_hash("request")
    params.finish()
    return _found(queries.read_request(view.store, request), view)


@method("inference_challenge")
def inference_challenge(view: NodeView, params: Params) -> Any:
    """A challenge by its id, with its reveals; null when there is none."""
    challenge = params.take_hash("challenge")
    params.finish()
    found = queries.read_challenge(view.store, challenge)
    if found is None:
        return None
    reveals = queries.read_reveals(view.store, challenge)
    return {**view.show(found), "reveals": [view.show(one) for one in reveals.values()]}


@method("inference_challenges")
def inference_challenges(view: NodeView, params: Params) -> Any:
    """Challenges that wait for a verifier's account."""
    account = params.take_account("account")
    params.finish()
    found = queries.list_open_challenges(view.store, account)
    return [{"challenge": _hex(key), **view.show(one)} for key, one in found]
