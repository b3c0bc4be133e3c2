"""JSON-RPC methods about keys and values of the state: state_. Each reads after the last block, or after one named."""

from __future__ import annotations

import itertools
from typing import Any

from node.local_api.methods.params import KEYS_MAX, PAGE_ITEMS_MAX, Params
from node.local_api.methods.past import take_state
from node.local_api.methods.schemas import (
    BLOCK,
    BYTES,
    COUNT,
    HASH,
    INTEGER,
    KEY,
    KEYS,
    PREFIX,
    START_KEY,
    TEXT,
    list_of,
    object_of,
    or_null,
)
from node.local_api.methods.table import NODE_NAME, NodeView, method, show_bytes
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import RUNTIME_VERSION

PAGE_KEYS_MAX = 1024


def _read_value(view: NodeView, params: Params) -> bytes | None:
    """The value under `key` after the block that is meant."""
    key = params.take_key("key")
    return take_state(view, params).get(key)


@method("state_getStorage", takes=(KEY, BLOCK), gives=or_null(BYTES))
def state_get_storage(view: NodeView, params: Params) -> Any:
    """Canonical bytes under a state key; null when there are none."""
    found = _read_value(view, params)
    return None if found is None else show_bytes(found)


@method("state_getStorageHash", takes=(KEY, BLOCK), gives=or_null(HASH))
def state_get_storage_hash(view: NodeView, params: Params) -> Any:
    """H(STATE_VALUE, value) of a state key, as the state's tree has it; null when there is no value."""
    found = _read_value(view, params)
    return None if found is None else show_bytes(hash_tagged(Tag.STATE_VALUE, found))


@method("state_getStorageSize", takes=(KEY, BLOCK), gives=or_null(INTEGER))
def state_get_storage_size(view: NodeView, params: Params) -> Any:
    """Bytes of the value under a state key; null when there is none."""
    found = _read_value(view, params)
    return None if found is None else len(found)


@method(
    "state_queryStorageAt",
    takes=(KEYS, BLOCK),
    gives=list_of(object_of(block=HASH, changes=list_of(list_of(or_null(BYTES))))),
    is_bulky=True,
)
def state_query_storage_at(view: NodeView, params: Params) -> Any:
    """Values of up to 64 state keys after one and the same block, as [{block, changes: [[key, value]]}] of one item."""
    keys = params.take_keys("keys", KEYS_MAX)
    state = take_state(view, params)
    changes = [[key, state.get(key)] for key in keys]
    shown = [[None if one is None else show_bytes(one) for one in change] for change in changes]
    return [{"block": show_bytes(state.get_head().block_hash), "changes": shown}]


@method("state_getPairs", takes=(PREFIX, START_KEY, BLOCK), gives=list_of(list_of(BYTES)), is_bulky=True)
def state_get_pairs(view: NodeView, params: Params) -> Any:
    """Up to 256 [key, value] under a prefix, in order, after `start`."""
    prefix = params.take_key("prefix")
    start = params.take_optional_key("start")
    pairs: list[list[str]] = []
    for key, value in take_state(view, params).iterate(prefix, start or b""):
        if key != start:
            pairs.append([show_bytes(key), show_bytes(value)])
        if len(pairs) == PAGE_ITEMS_MAX:
            break
    return pairs


@method("state_getKeysPaged", takes=(PREFIX, COUNT, START_KEY, BLOCK), gives=list_of(BYTES), is_bulky=True)
def state_get_keys_paged(view: NodeView, params: Params) -> Any:
    """Up to `count` (at most 1024) keys under a prefix, in order, after `start`."""
    prefix = params.take_key("prefix")
    count = params.take_count("count", PAGE_KEYS_MAX)
    start = params.take_optional_key("start")
    found = (key for key, _ in take_state(view, params).iterate(prefix, start or b"") if key != start)
    return [show_bytes(key) for key in itertools.islice(found, count)]


@method(
    "state_getReadProof",
    takes=(KEY, BLOCK),
    gives=object_of(height=INTEGER, stateRoot=HASH, value=or_null(BYTES), proof=BYTES),
    is_bulky=True,
)
def state_get_read_proof(view: NodeView, params: Params) -> Any:
    """Value, Merkle proof and root of a state key under the last finalized header, or under that of the block named."""
    key = params.take_key("key")
    state = take_state(view, params)
    head, value = state.get_head(), state.get(key)
    return {
        "height": head.height,
        "stateRoot": show_bytes(head.state_root),
        "value": None if value is None else show_bytes(value),
        "proof": show_bytes(encode(state.prove(key))),
    }


@method("state_getRuntimeVersion", gives=object_of(specName=TEXT, specVersion=INTEGER))
def state_get_runtime_version(view: NodeView, params: Params) -> Any:
    """Version that transactions are signed for."""
    params.finish()
    return {"specName": NODE_NAME, "specVersion": RUNTIME_VERSION}
