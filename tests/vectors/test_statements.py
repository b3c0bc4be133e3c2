"""The vectors of statements, read as another implementation would: the tree by recursion, hashes recomputed plainly."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from proto_specs.codec import decode, decode_as, encode
from proto_specs.ed25519 import is_signature_valid
from proto_specs.hashing import Tag
from proto_specs.types.calls import Call, SettleStatement
from proto_specs.types.statement import Statement, is_statement_signed
from proto_specs.types.sum_tree import RequestLeaf, StatementPlace, SumNode, locate
from tests.vectors.generate import VECTORS

STATEMENTS = json.loads((VECTORS / "statements.json").read_text("utf-8"))
LEAVES = [decode(RequestLeaf, bytes.fromhex(one["bytes"])) for one in STATEMENTS["leaves"]]
STATED = decode(Statement, bytes.fromhex(STATEMENTS["statement"]["bytes"]))


def hash_plainly(text: str, payload: bytes) -> bytes:
    return hashlib.blake2b(bytes([len(text)]) + text.encode() + payload, digest_size=32).digest()


def sum_plainly(leaves: list[tuple[bytes, int]]) -> tuple[bytes, int]:
    """(hash, sum) of a tree: the left half is the largest power of two that leaves something for the right one."""
    if len(leaves) == 1:
        data, own = leaves[0]
        return hash_plainly("myelin/statement-leaf", data), own
    half = 1 << (len(leaves) - 1).bit_length() - 1
    parts = [sum_plainly(one) for one in (leaves[:half], leaves[half:])]
    payload = b"".join(digest + total.to_bytes(8, "big") for digest, total in parts)
    return hash_plainly("myelin/statement-node", payload), sum(total for _, total in parts)


def test_leaves_and_their_sums() -> None:
    for leaf, one in zip(LEAVES, STATEMENTS["leaves"], strict=True):
        value = one["value"]
        own = value["positions"] - value["settled_positions"]
        prompt = max(0, min(value["prompt_tokens"], value["positions"]) - value["settled_positions"])
        assert (leaf.own_positions, leaf.billed_prompt) == (own, prompt) == (one["own_positions"], one["billed_prompt"])
        assert one["hash"] == hash_plainly("myelin/statement-leaf", bytes.fromhex(one["bytes"])).hex()
    assert STATEMENTS["levels"][0] == [[one["hash"], one["own_positions"]] for one in STATEMENTS["leaves"]]


def test_the_root_is_that_of_all_leaves() -> None:
    root, total = sum_plainly([(encode(one), one.own_positions) for one in LEAVES])
    assert STATEMENTS["levels"][-1] == [[root.hex(), total]]
    assert (STATED.root, STATED.positions, STATED.requests) == (root, total, len(LEAVES))
    assert STATED.prompt_tokens == sum(one["billed_prompt"] for one in STATEMENTS["leaves"])
    assert STATED.tokens == sum(one.tokens for one in LEAVES)


@pytest.mark.parametrize("tree", STATEMENTS["trees"], ids=lambda tree: len(tree["own_positions"]))
def test_trees_of_all_sizes(tree: Any) -> None:
    first = replace(LEAVES[0], settled_positions=0)
    leaves = [replace(first, sequence=n, positions=own) for n, own in enumerate(tree["own_positions"])]
    root, total = sum_plainly([(encode(one), one.own_positions) for one in leaves])
    assert (tree["root"], tree["sum"]) == (root.hex(), total)


def test_a_statement_is_signed_by_all() -> None:
    shown = STATEMENTS["statement"]
    data = bytes.fromhex(shown["bytes"])
    assert shown["id"] == hash_plainly("myelin/statement", data).hex()
    keys = [bytes.fromhex(one) for one in STATEMENTS["keys"]]
    assert is_signature_valid(keys[0], Tag.STATEMENT_CLIENT_SIGN, data, bytes.fromhex(shown["client_signature"]))
    for key, signature in zip(keys[1:], shown["worker_signatures"], strict=True):
        assert is_signature_valid(key, Tag.STATEMENT_WORKER_SIGN, data, bytes.fromhex(signature))
    assert [one.worker for one in STATED.path] == keys[1:]
    call = decode(SettleStatement, bytes.fromhex(STATEMENTS["call"]))
    assert call.statement.statement == STATED
    assert is_statement_signed(call.statement, keys[0])
    assert decode_as(Call, encode(call, Call)) == call


def test_points_fall_where_they_count_to() -> None:
    root, before = SumNode(STATED.root, STATED.positions), [0]
    for leaf in LEAVES:
        before.append(before[-1] + leaf.own_positions)
    for one in STATEMENTS["places"]:
        place, point = decode(StatementPlace, bytes.fromhex(one["bytes"])), one["point"]
        assert place.leaf == LEAVES[one["index"]]
        assert locate(place, len(LEAVES), root, point) == one["within"] == point - before[one["index"]]
        assert one["window"] == (place.leaf.settled_positions + one["within"]) // 32


def test_other_places_are_refused() -> None:
    root = SumNode(STATED.root, STATED.positions)
    for one in STATEMENTS["refused"]:
        place = decode(StatementPlace, bytes.fromhex(one["bytes"]))
        assert locate(place, len(LEAVES), root, one["point"]) is None, one["why"]
