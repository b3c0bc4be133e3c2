"""The golden vectors hold: as files another implementation would read, not as what the builder happens to make."""

from __future__ import annotations

import json
from typing import Any

import pytest

from consensus.runtime.context import BlockContext
from consensus.runtime.executive import execute_block
from consensus.runtime.receipts import BlockEvents, Receipt, compute_receipts_root
from consensus.state.reader import DictState
from consensus.state.tree import EMPTY_ROOT, StateProof, update, verify_proof
from genesis.builder import build_genesis
from genesis.spec import ChainSpec, compute_genesis_hash
from proto_specs.codec import decode, encode
from proto_specs.types import calls
from proto_specs.types.chain import (
    Block,
    Commit,
    Header,
    Transaction,
    compute_block_hash,
    compute_body_root,
    compute_commit_hash,
    compute_extrinsic_hash,
    compute_signing_bytes,
    is_transaction_signed,
)
from tests.unit.consensus.runtime.vectors import BUILDERS, VECTORS
from tests.unit.consensus.state.test_tree import compute_naive_root


def load(name: str) -> dict[str, Any]:
    """A vector file."""
    loaded: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return loaded


@pytest.mark.parametrize("name", list(BUILDERS))
def test_the_files_are_what_the_code_makes(name: str) -> None:
    assert json.loads(json.dumps(BUILDERS[name]())) == load(name)


def test_state_tree_vectors_follow_the_definition() -> None:
    vectors = load("state_tree")
    items: dict[bytes, bytes] = {}
    states = []
    for changes, root in zip(vectors["blocks"], vectors["roots"], strict=True):
        for key, value in changes:
            items.pop(bytes.fromhex(key), None)
            if value is not None:
                items[bytes.fromhex(key)] = bytes.fromhex(value)
        assert compute_naive_root(items).hex() == root
        states.append(dict(items))
    for one in vectors["proofs"]:
        key, value = bytes.fromhex(one["key"]), None if one["value"] is None else bytes.fromhex(one["value"])
        assert states[one["block"]].get(key) == value
        proof = decode(StateProof, bytes.fromhex(one["proof"]))
        assert verify_proof(bytes.fromhex(vectors["roots"][one["block"]]), key, value, proof)


def test_extrinsic_vectors_decode_and_verify() -> None:
    vectors = load("extrinsics")
    genesis = bytes.fromhex(vectors["genesis"])
    kinds = set()
    for one in vectors["extrinsics"]:
        transaction = decode(Transaction, bytes.fromhex(one["transaction"]))
        birth_hash = bytes.fromhex(one["birth_hash"])
        assert type(transaction.body.call).__name__ == one["call"]
        assert compute_signing_bytes(transaction.body, genesis, birth_hash).hex() == one["signing_payload"]
        assert compute_extrinsic_hash(transaction).hex() == one["hash"]
        assert is_transaction_signed(transaction, genesis, birth_hash)
        kinds.add(one["call"])
    assert kinds == {one.__name__ for one in calls.Call.__args__}, "every call has a vector"


def test_block_vectors_decode_and_hash() -> None:
    vectors = load("blocks")
    parent = None
    for one in vectors["blocks"]:
        block = decode(Block, bytes.fromhex(one["block"]))
        header = decode(Header, bytes.fromhex(one["header"]))
        assert block.header == header
        assert compute_block_hash(header).hex() == one["hash"]
        assert parent in (None, header.parent_hash)
        assert compute_body_root(block.evidence, block.transactions) == header.body_root
        assert compute_commit_hash(block.last_commit) == header.last_commit_hash
        receipts = tuple(decode(Receipt, bytes.fromhex(raw)) for raw in one["receipts"])
        events = decode(BlockEvents, bytes.fromhex(one["events"]))
        assert compute_receipts_root(receipts, events) == header.receipts_root
        parent = compute_block_hash(header)


def test_genesis_vector_builds() -> None:
    vector = load("runtime")["genesis"]
    spec = decode(ChainSpec, bytes.fromhex(vector["spec"]))
    genesis = build_genesis(spec)
    assert compute_genesis_hash(spec).hex() == vector["hash"]
    assert [[key.hex(), value.hex()] for key, value in genesis.items] == vector["items"]
    items = {bytes.fromhex(key): bytes.fromhex(value) for key, value in vector["items"]}
    assert compute_naive_root(items).hex() == vector["state_root"]


def test_the_story_of_a_failed_request_replays_from_its_file() -> None:
    story = load("runtime")["failed_request"]
    state = DictState({bytes.fromhex(key): bytes.fromhex(value) for key, value in story["start_items"]})
    initial = update(lambda path: None, EMPTY_ROOT, sorted(state.items.items()))
    pages = {path: page for path, page in initial.node_writes.items() if page is not None}
    root = initial.root
    assert root.hex() == story["start_root"]
    for one in story["blocks"]:
        context = BlockContext(
            height=one["height"],
            time_ms=one["time_ms"],
            proposer=bytes.fromhex(story["proposer"]),
            beacon=bytes.fromhex(one["beacon"]),
            genesis=bytes.fromhex(story["genesis"]),
            parent_hash=bytes.fromhex(one["parent_hash"]),
            last_commit=decode(Commit, bytes.fromhex(one["last_commit"])),
        )
        transactions = [decode(Transaction, bytes.fromhex(raw)) for raw in one["transactions"]]
        executed = execute_block(state, context, (), transactions)
        result = update(pages.get, root, executed.changes)
        for path, page in result.node_writes.items():
            if page is None:
                del pages[path]
            else:
                pages[path] = page
        state.apply(executed.changes)
        root = result.root
        assert root.hex() == one["state_root"]
        assert executed.receipts_root.hex() == one["receipts_root"]
        assert [encode(tx).hex() for tx in transactions] == one["transactions"]
