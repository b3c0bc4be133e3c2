"""Golden vectors of statements: five requests, their sum tree, the statement, and where points of it fall."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from consensus.runtime.inference.draws import compute_paid
from inference.serving.statements import check_statement, make_leaf, make_statement
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.jsonform import to_json
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.calls import SettleStatement
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import Continuation, Order, Voucher, compute_positions, compute_request_id
from proto_specs.types.statement import (
    SignedStatement,
    Statement,
    compute_statement_id,
    sign_statement_as_client,
    sign_statement_as_worker,
)
from proto_specs.types.sum_tree import RequestLeaf, StatementPlace, SumNode, find_place, list_levels, locate
from tests.vectors import samples

Vectors = dict[str, Any]
SS58_PREFIX = 42
SLICE = 1_000_000
ANSWERS = ((0, 6, True), (1, 0, False), (2, 33, True), (5, 1, True), (9, 60, False))
"""Number, tokens vouched for and whether the voucher was final, of each request."""
CONTINUED = 5
"""The request of this number goes on from 32 positions of another one."""
TREES = tuple(range(1, 10))


def build_statements() -> Vectors:
    """The whole file."""
    leaves = make_leaves()
    statement = make_statement(samples.GENESIS, samples.make_order().session, samples.make_order().path, leaves)
    check_statement(statement, leaves)
    levels = list_levels(leaves)
    count = statement.prompt_tokens + statement.tokens
    client_signature = sign_statement_as_client(statement, samples.SESSION_KEY)
    signatures = tuple(sign_statement_as_worker(statement, key) for key in samples.WORKER_KEYS)
    call = SettleStatement(SignedStatement(statement, client_signature, signatures))
    return {
        "format": (
            "inference.md, inference_settlement.md; bytes, hashes, keys and signatures in hex; value: see codec.json; "
            "levels: [hash, prompt positions, tokens] of every node, leaves first; places: of a point, the encoded "
            "StatementPlace, the position of the request, and its window; refused: places that do not cover their "
            "point; trees: roots over the first leaf with so many prompt tokens each, sequence numbers from 0 on; "
            "paid: [nmyl, gross, prompt_gross, prompt tokens, tokens, point], what each nmyl of a gross is for"
        ),
        "keys": [one.public_key.hex() for one in (samples.SESSION_KEY, *samples.WORKER_KEYS)],
        "leaves": [
            {
                "value": show(one),
                "bytes": encode(one).hex(),
                "hash": node.hash.hex(),
                "billed_prompt": one.billed_prompt,
            }
            for one, node in zip(leaves, levels[0], strict=True)
        ],
        "levels": [[[node.hash.hex(), node.prompt, node.tokens] for node in level] for level in levels],
        "statement": {
            "value": show(statement),
            "bytes": encode(statement).hex(),
            "id": compute_statement_id(statement).hex(),
            "client_signature": client_signature.hex(),
            "worker_signatures": [one.hex() for one in signatures],
        },
        "call": encode(call).hex(),
        "places": [show_place(leaves, levels, point) for point in range(0, count, 7)],
        "refused": [
            {"why": why, "point": point, "bytes": encode(place).hex()}
            for why, point, place in spoil_places(leaves, levels, statement)
        ],
        "trees": [show_tree(leaves[0], size) for size in TREES],
        "paid": [[*one, compute_paid(*one)] for one in list_paid()],
    }


def show(value: Any) -> Any:
    """A record as JSON, by field names."""
    return to_json(value, SS58_PREFIX)


def make_orders() -> list[Order]:
    """The sample's order, and others like it in the same session."""
    orders = []
    for place, (number, tokens, _) in enumerate(ANSWERS):
        start = place * SLICE
        order = replace(
            samples.make_order(),
            model=bytes([0x4D]) * 32,
            sequence=number,
            slice_start=start,
            slice_end=start + SLICE,
            tokens_max=max(tokens, 1) + 40,
            continuation=Continuation(bytes([0xCB]) * 32, 1, 38, 32) if number == CONTINUED else None,
        )
        orders.append(order)
    return orders


def make_leaves() -> list[RequestLeaf]:
    """A leaf of each order; what the stages would have signed is made up."""
    leaves = []
    for order, (_, tokens, is_final) in zip(make_orders(), ANSWERS, strict=True):
        request = compute_request_id(order)
        boundaries = [hash_tagged(Tag.LEAF, request + bytes([index])) for index in range(samples.STAGES + 1)]
        tokens_hash = hash_tagged(Tag.TOKENS, request) if tokens else ZERO_HASH
        voucher = Voucher(request, tokens, tokens_hash, is_final)
        positions = compute_positions(order.prompt_tokens, tokens) + (0 if is_final else 3)
        leaves.append(make_leaf(order, voucher, boundaries, positions))
    return leaves


def show_place(leaves: list[RequestLeaf], levels: list[list[SumNode]], point: int) -> Vectors:
    """Where a point falls."""
    place = find_place(leaves, levels, point)
    position = locate(place, len(leaves), levels[-1][0], point)
    assert position is not None
    window = position // WINDOW_POSITIONS
    return {"point": point, "bytes": encode(place).hex(), "index": place.index, "position": position, "window": window}


def spoil_places(
    leaves: list[RequestLeaf], levels: list[list[SumNode]], statement: Statement
) -> Iterator[tuple[str, int, StatementPlace]]:
    """(what is wrong, point, place)."""
    start = leaves[0].billed_prompt
    place = find_place(leaves, levels, start)
    first, second, *rest = place.siblings
    yield "the point of the request before", start - 1, place
    yield "the point of the request after", start + place.leaf.billed_prompt, place
    yield "a token, where it has none", statement.prompt_tokens + leaves[0].tokens, place
    yield "beyond all points", statement.prompt_tokens + statement.tokens, place
    yield "another index", start, replace(place, index=0)
    yield "an index that there is not", start, replace(place, index=len(leaves))
    yield "a sibling too few", start, replace(place, siblings=place.siblings[:-1])
    yield "a sibling too many", start, replace(place, siblings=(*place.siblings, first))
    yield "siblings swapped", start, replace(place, siblings=(second, first, *rest))
    moved = (replace(first, prompt=first.prompt - 1), replace(second, prompt=second.prompt + 1), *rest)
    yield "a position moved from one sibling to another", start - 1, replace(place, siblings=moved)
    turned = (replace(first, prompt=first.prompt - 1, tokens=first.tokens + 1), second, *rest)
    yield "a position turned into a token", start, replace(place, siblings=turned)
    huge = (replace(first, tokens=2**64 - 1), *place.siblings[1:])
    yield "a sum beyond the root's", start, replace(place, siblings=huge)
    longer = replace(place.leaf, tokens=place.leaf.tokens + 1)
    yield "a token more in the leaf", start, replace(place, leaf=longer)
    less = replace(place.leaf, settled_positions=place.leaf.positions + 1)
    yield "fewer positions than were settled before", start, replace(place, leaf=less)


def show_tree(leaf: RequestLeaf, count: int) -> Vectors:
    """A tree of so many requests: number n bills 1 + n x n prompt positions, and the tokens of the leaf."""
    prompts = [1 + number * number for number in range(count)]
    leaves = [
        replace(leaf, sequence=number, prompt_tokens=one, positions=one + leaf.tokens)
        for number, one in enumerate(prompts)
    ]
    root = list_levels(leaves)[-1][0]
    return {"prompt_tokens": prompts, "root": root.hash.hex(), "sums": [root.prompt, root.tokens]}


def list_paid() -> Iterator[tuple[int, int, int, int, int]]:
    """(nmyl, gross, prompt_gross, prompt tokens, tokens)."""
    for prompt_tokens, tokens, prompt_price, price in ((40, 60, 1_000, 2_000), (3, 0, 7, 9), (5, 2**20, 1, 2**40)):
        prompt_gross = prompt_tokens * prompt_price
        gross = prompt_gross + tokens * price
        edges = {0, prompt_price - 1, prompt_price, prompt_gross - 1, prompt_gross, prompt_gross + price, gross - 1}
        for nmyl in sorted(one for one in edges if one < gross):
            yield nmyl, gross, prompt_gross, prompt_tokens, tokens
