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


Sums = tuple[bytes, int, int]


def sum_plainly(leaves: list[Sums]) -> Sums:
    """(hash, prompts, tokens): the left half is the largest power of two that leaves something for the right one."""
    if len(leaves) == 1:
        data, prompt, tokens = leaves[0]
        return hash_plainly("myelin/statement-leaf", data), prompt, tokens
    half = 1 << (len(leaves) - 1).bit_length() - 1
    parts = [sum_plainly(one) for one in (leaves[:half], leaves[half:])]
    payload = b"".join(one[0] + one[1].to_bytes(8, "big") + one[2].to_bytes(8, "big") for one in parts)
    return hash_plainly("myelin/statement-node", payload), *(sum(one[at] for one in parts) for at in (1, 2))


def count_prompt(value: Any) -> int:
    """Billed prompt positions, of a leaf's fields."""
    return max(0, min(value["prompt_tokens"], value["positions"]) - value["settled_positions"])


def test_leaves_and_their_sums() -> None:
    for leaf, one in zip(LEAVES, STATEMENTS["leaves"], strict=True):
        assert leaf.billed_prompt == count_prompt(one["value"]) == one["billed_prompt"]
        assert one["hash"] == hash_plainly("myelin/statement-leaf", bytes.fromhex(one["bytes"])).hex()
    bills = [[one["hash"], one["billed_prompt"], one["value"]["tokens"]] for one in STATEMENTS["leaves"]]
    assert STATEMENTS["levels"][0] == bills


def test_the_root_is_that_of_all_leaves() -> None:
    root, prompt, tokens = sum_plainly([(encode(one), one.billed_prompt, one.tokens) for one in LEAVES])
    assert STATEMENTS["levels"][-1] == [[root.hex(), prompt, tokens]]
    stated = (STATED.root, STATED.prompt_tokens, STATED.tokens, STATED.requests)
    assert stated == (root, prompt, tokens, len(LEAVES))
    assert STATED.positions == sum(one.positions - one.settled_positions for one in LEAVES)


@pytest.mark.parametrize("tree", STATEMENTS["trees"], ids=lambda tree: len(tree["prompt_tokens"]))
def test_trees_of_all_sizes(tree: Any) -> None:
    leaves = [
        replace(LEAVES[0], sequence=n, prompt_tokens=one, positions=one + LEAVES[0].tokens)
        for n, one in enumerate(tree["prompt_tokens"])
    ]
    root, *sums = sum_plainly([(encode(one), one.prompt_tokens, one.tokens) for one in leaves])
    assert (tree["root"], tree["sums"]) == (root.hex(), sums)


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


ROOT = SumNode(STATED.root, STATED.prompt_tokens, STATED.tokens)


def test_points_fall_where_they_count_to() -> None:
    prompts = [(n, one.settled_positions + at) for n, one in enumerate(LEAVES) for at in range(one.billed_prompt)]
    tokens = [(n, one.prompt_tokens - 1 + at) for n, one in enumerate(LEAVES) for at in range(one.tokens)]
    points = prompts + tokens
    for one in STATEMENTS["places"]:
        place, point = decode(StatementPlace, bytes.fromhex(one["bytes"])), one["point"]
        assert place.leaf == LEAVES[one["index"]]
        assert (one["index"], one["position"]) == points[point]
        assert locate(place, len(LEAVES), ROOT, point) == one["position"]
        assert one["window"] == one["position"] // 32


def test_other_places_are_refused() -> None:
    for one in STATEMENTS["refused"]:
        place = decode(StatementPlace, bytes.fromhex(one["bytes"]))
        assert locate(place, len(LEAVES), ROOT, one["point"]) is None, one["why"]


def test_each_nmyl_pays_for_one_point() -> None:
    for nmyl, gross, prompt_gross, prompt_tokens, tokens, point in STATEMENTS["paid"]:
        if nmyl < prompt_gross:
            expected = nmyl // (prompt_gross // prompt_tokens)
        else:
            expected = prompt_tokens + (nmyl - prompt_gross) // ((gross - prompt_gross) // tokens)
        assert point == expected
