"""JSON-RPC methods of the node and its blocks: system_ and chain_. Reads only."""

from __future__ import annotations

from typing import Any

from consensus.runtime.balances.state import Account, read_account
from node.local_api.methods.params import PAGE_ITEMS_MAX, Params
from node.local_api.methods.past import find_height, take_state
from node.local_api.methods.schemas import (
    ACCOUNT,
    BLOCK,
    BLOCKS,
    BOOLEAN,
    HASH,
    INTEGER,
    OBJECT,
    TEXT,
    list_of,
    object_of,
    one_of,
    or_null,
    schema_of,
)
from node.local_api.methods.table import METHODS, NODE_NAME, NodeView, method, show_bytes
from node.local_api.wire.subscriptions import SUBSCRIPTION_METHODS
from node.store.light_blocks import find_light_block
from proto_specs.types.chain import compute_block_hash

NODE_VERSION = "0.1.0"
UNKNOWN_HEIGHT = (1 << 64) - 1
STALL_INTERVALS = 10
STALL_MS_MIN = 10_000
CLOCK_AHEAD_MS_MAX = 5_000


@method("rpc_methods", gives=object_of(methods=list_of(TEXT)))
def rpc_methods(view: NodeView, params: Params) -> Any:
    """Names of all methods; those that begin or end a subscription are answered over a WebSocket alone."""
    params.finish()
    return {"methods": sorted({*METHODS, *SUBSCRIPTION_METHODS})}


@method("system_name", gives=TEXT)
def system_name(view: NodeView, params: Params) -> Any:
    """Name of the software."""
    params.finish()
    return NODE_NAME


@method("system_version", gives=TEXT)
def system_version(view: NodeView, params: Params) -> Any:
    """Version of the software."""
    params.finish()
    return NODE_VERSION


@method("system_chain", gives=TEXT)
def system_chain(view: NodeView, params: Params) -> Any:
    """Name of the chain."""
    params.finish()
    return view.spec.name


@method(
    "system_properties",
    gives=object_of(ss58Format=INTEGER, tokenDecimals=INTEGER, tokenSymbol=TEXT, blockIntervalMs=INTEGER),
)
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


@method(
    "system_health",
    gives=object_of(
        height=INTEGER, timeMs=INTEGER, ageMs=INTEGER, pending=INTEGER, isHealthy=BOOLEAN, problem=or_null(TEXT)
    ),
)
def system_health(view: NodeView, params: Params) -> Any:
    """Height, age of the last block, waiting transactions; not healthy when blocks stop or the clock is off."""
    params.finish()
    head = view.store.get_head()
    age_ms = view.now_ms() - head.time_ms
    problem = _find_problem(age_ms, view.spec.block_interval_ms) if head.height else None
    return {
        "height": head.height,
        "timeMs": head.time_ms,
        "ageMs": max(0, age_ms),
        "pending": len(view.pool),
        "isHealthy": problem is None,
        "problem": problem,
    }


def _find_problem(age_ms: int, block_interval_ms: int) -> str | None:
    if age_ms > max(STALL_MS_MIN, STALL_INTERVALS * block_interval_ms):
        return f"no block for {age_ms // 1_000} s"
    if -age_ms > CLOCK_AHEAD_MS_MAX:
        return f"the chain's time is {-age_ms // 1_000} s ahead of this machine's clock: set the clock (NTP does it)"
    return None


@method("system_accountNextIndex", takes=(ACCOUNT,), gives=INTEGER)
def system_account_next_index(view: NodeView, params: Params) -> Any:
    """The next nonce of an account, counting what waits in the pool."""
    account = params.take_account("account")
    params.finish()
    return view.pool.get_next_nonce(account)


@method(
    "system_account",
    takes=(
        ACCOUNT,
        BLOCK,
    ),
    gives=schema_of(Account),
)
def system_account(view: NodeView, params: Params) -> Any:
    """Nonce, free and reserved balance of an account, after the last block or the one named."""
    account = params.take_account("account")
    return view.show(read_account(take_state(view, params), account))


@method("system_localListenAddresses", gives=list_of(TEXT))
def system_local_listen_addresses(view: NodeView, params: Params) -> Any:
    """The multiaddresses at which peers reach this node: what another node's `--peer` takes."""
    params.finish()
    return list(view.list_addresses())


@method("system_nodeRoles", gives=list_of(TEXT))
def system_node_roles(view: NodeView, params: Params) -> Any:
    """What this node does for the chain: `Authority` makes and decides blocks, `Full` follows them."""
    params.finish()
    return ["Authority" if view.is_validator else "Full"]


def _take_height(view: NodeView, params: Params) -> int:
    """The height of the block that is meant, the last one by default; UNKNOWN_HEIGHT for a hash nobody knows."""
    block = params.take_optional_block("block")
    params.finish()
    return _find_height(view, block)


def _find_height(view: NodeView, block: int | bytes | None) -> int:
    height = view.store.get_head().height if block is None else find_height(view, block)
    return UNKNOWN_HEIGHT if height is None else height


@method("chain_getHeader", takes=(BLOCK,), gives=or_null(OBJECT))
def chain_get_header(view: NodeView, params: Params) -> Any:
    """Header of a finalized block by height or hash (the last one by default), with its hash; null for none."""
    height = _take_height(view, params)
    header = view.store.get_header(height)
    if header is None:
        return {"height": 0, "hash": show_bytes(view.store.genesis_hash)} if height == 0 else None
    return {**view.show(header), "hash": show_bytes(compute_block_hash(header))}


@method(
    "chain_getBlock",
    takes=(BLOCK,),
    gives=or_null(object_of(hash=HASH, block=OBJECT, commit=or_null(OBJECT))),
    is_bulky=True,
)
def chain_get_block(view: NodeView, params: Params) -> Any:
    """A finalized block by height or hash (the last one by default), its hash and commit; null for none."""
    height = _take_height(view, params)
    block, commit = view.store.get_block(height), view.store.get_commit(height)
    if block is None:
        return None
    return {
        "hash": show_bytes(compute_block_hash(block.header)),
        "block": view.show(block),
        "commit": view.show(commit),
    }


@method(
    "chain_getLightBlock",
    takes=(BLOCK,),
    gives=or_null(object_of(hash=HASH, header=OBJECT, commit=OBJECT, validators=OBJECT)),
)
def chain_get_light_block(view: NodeView, params: Params) -> Any:
    """What verifies a header by height or hash (the last one by default): its commit and validators; null for none."""
    height = _take_height(view, params)
    found = find_light_block(view.store, height) if height else None
    if found is None:
        return None
    return {"hash": show_bytes(compute_block_hash(found.header)), **view.show(found)}


@method("chain_getBlockHash", takes=(BLOCKS,), gives=one_of(or_null(HASH), list_of(or_null(HASH))))
def chain_get_block_hash(view: NodeView, params: Params) -> Any:
    """Hash of a finalized block by height (the last one by default), the genesis hash for 0; null for none.

    For a list of up to 256 heights, a list.
    """
    blocks = params.take_blocks("block", PAGE_ITEMS_MAX)
    params.finish()
    if isinstance(blocks, list):
        return [_show_hash(view, one) for one in blocks]
    return _show_hash(view, blocks)


def _show_hash(view: NodeView, block: int | bytes | None) -> str | None:
    found = view.store.get_block_hash(_find_height(view, block))
    return None if found is None else show_bytes(found)


@method("chain_getFinalizedHead", gives=HASH)
def chain_get_finalized_head(view: NodeView, params: Params) -> Any:
    """Hash of the last finalized block."""
    params.finish()
    return show_bytes(view.store.get_head().block_hash)


@method("chain_getReceipts", takes=(BLOCK,), gives=or_null(OBJECT), is_bulky=True)
def chain_get_receipts(view: NodeView, params: Params) -> Any:
    """Receipts and events of a finalized block by height or hash (the last one by default); null for none."""
    height = _take_height(view, params)
    return view.show(view.store.get_receipts(height))
