"""The sum tree over requests: each point falls on the one position that it is drawn for, and nothing else passes."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proto_specs.limits import STATEMENT_DEPTH_MAX
from proto_specs.types.sum_tree import (
    RequestLeaf,
    StatementPlace,
    SumNode,
    count_before,
    find_place,
    join_nodes,
    list_levels,
    locate,
    make_leaf_node,
)

HASH = bytes(32)
Bill = tuple[int, int]
"""Billed prompt positions and tokens of a request."""


def make_leaf(sequence: int, bill: Bill, settled: int = 0) -> RequestLeaf:
    """A leaf that bills so much after `settled` positions."""
    prompt, tokens = settled + bill[0], bill[1]
    positions = prompt + max(tokens, 1) - 1
    request = bytes([sequence % 256]) * 32
    return RequestLeaf(request, sequence, 0, 1, prompt, settled, positions, tokens, HASH, True, (HASH, HASH))


def make_leaves(bills: list[Bill]) -> list[RequestLeaf]:
    return [make_leaf(number, bill, 32 * (number % 3)) for number, bill in enumerate(bills)]


BILLS = st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=20)


@given(BILLS)
def test_every_point_falls_on_what_it_counts_to(bills: list[Bill]) -> None:
    """Prompt positions of all requests first, then tokens: exactly as many points of each kind as a request bills."""
    leaves = make_leaves(bills)
    levels = list_levels(leaves)
    root = levels[-1][0]
    assert (root.prompt, root.tokens) == (sum(one for one, _ in bills), sum(one for _, one in bills))
    prompts = [(n, leaves[n].settled_positions + at) for n, (count, _) in enumerate(bills) for at in range(count)]
    tokens = [(n, leaves[n].prompt_tokens - 1 + at) for n, (_, count) in enumerate(bills) for at in range(count)]
    found = []
    for point in range(root.prompt + root.tokens):
        place = find_place(leaves, levels, point)
        assert place.leaf == leaves[place.index]
        assert len(place.siblings) <= STATEMENT_DEPTH_MAX
        position = locate(place, len(leaves), root, point)
        assert position is not None
        assert place.leaf.settled_positions <= position < place.leaf.positions
        found.append((place.index, position))
    assert found == prompts + tokens


@given(BILLS, st.data())
def test_a_place_covers_its_own_points_alone(bills: list[Bill], data: st.DataObject) -> None:
    leaves = make_leaves(bills)
    levels = list_levels(leaves)
    root = levels[-1][0]
    place = find_place(leaves, levels, data.draw(st.integers(0, root.prompt + root.tokens - 1)))
    before = [sum(kind) for kind in zip((0, 0), *bills[: place.index], strict=True)]
    assert count_before(place, len(leaves), root) == tuple(before)
    prompt, tokens = bills[place.index]
    own = {*range(before[0], before[0] + prompt), *(root.prompt + before[1] + one for one in range(tokens))}
    point = data.draw(st.integers(-1, root.prompt + root.tokens + 1))
    assert (locate(place, len(leaves), root, point) is not None) == (point in own)


SUM = st.integers(0, 2**64 - 1)
NODE = st.builds(SumNode, st.binary(min_size=32, max_size=32), SUM, SUM)


@st.composite
def mutations(draw: st.DrawFn, place: StatementPlace, root: SumNode) -> tuple[StatementPlace, SumNode]:
    """The place or the root with one thing changed, sums moved from one sibling to another among them."""
    siblings = list(place.siblings)
    kind = draw(
        st.sampled_from(["leaf", "own", "index", "sum", "hash", "move", "drop", "add", "swap", "root", "total"])
    )
    assume(siblings or kind not in ("sum", "hash", "move", "drop", "swap"))
    at = draw(st.integers(0, len(siblings) - 1)) if siblings else 0
    shift = draw(st.integers(-50, 50).filter(bool))
    if kind == "leaf":
        return replace(place, leaf=replace(place.leaf, request=draw(st.binary(min_size=32, max_size=32)))), root
    name = draw(st.sampled_from(["prompt", "tokens"]))
    if kind == "own":
        field = {"prompt": "prompt_tokens", "tokens": "tokens"}[name]
        changed = getattr(place.leaf, field) + shift
        assume(changed >= 0)
        return replace(place, leaf=replace(place.leaf, **{field: changed})), root
    if kind == "index":
        return replace(place, index=draw(st.integers(0, 2**32 - 1))), root
    if kind == "root":
        return place, replace(root, hash=draw(st.binary(min_size=32, max_size=32)))
    if kind == "total":
        return place, replace(root, **{name: getattr(root, name) + shift})
    if kind in ("sum", "move"):
        siblings[at] = replace(siblings[at], **{name: getattr(siblings[at], name) + shift})
        if kind == "move":
            other, into = draw(st.integers(0, len(siblings) - 1)), draw(st.sampled_from(["prompt", "tokens"]))
            siblings[other] = replace(siblings[other], **{into: getattr(siblings[other], into) - shift})
        assume(all(one.prompt >= 0 and one.tokens >= 0 for one in siblings))
    elif kind == "hash":
        siblings[at] = replace(siblings[at], hash=draw(st.binary(min_size=32, max_size=32)))
    elif kind == "drop":
        del siblings[at]
    elif kind == "add":
        siblings.insert(at, draw(NODE))
    else:
        siblings.reverse()
    return replace(place, siblings=tuple(siblings)), root


@settings(max_examples=400)
@given(BILLS, st.data())
def test_no_changed_place_or_root_passes(bills: list[Bill], data: st.DataObject) -> None:
    leaves = make_leaves(bills)
    levels = list_levels(leaves)
    root = levels[-1][0]
    point = data.draw(st.integers(0, root.prompt + root.tokens - 1))
    place = find_place(leaves, levels, point)
    changed, other_root = data.draw(mutations(place, root))
    assume((changed, other_root) != (place, root))
    assert locate(changed, len(leaves), other_root, point) is None


@given(st.lists(NODE, max_size=STATEMENT_DEPTH_MAX), st.integers(0, 2**32 - 1), st.integers(0, 2**17), NODE)
def test_a_hostile_place_is_refused_without_an_error(
    siblings: list[SumNode], index: int, requests: int, root: SumNode
) -> None:
    """Sums near 2^64, positions below those settled: bounded work, no exception."""
    most = 2**32 - 1
    leaf = make_leaf(0, (5, 5))
    for hostile in (
        leaf,
        replace(leaf, settled_positions=most),
        replace(leaf, positions=most, prompt_tokens=most, tokens=most),
        replace(leaf, positions=0, prompt_tokens=0, tokens=0),
    ):
        assert locate(StatementPlace(hostile, index, tuple(siblings)), requests, root, 0) is None


def test_a_node_is_no_leaf_and_binds_the_side_and_kind_of_each_sum() -> None:
    left, right = make_leaf_node(make_leaf(0, (3, 4))), make_leaf_node(make_leaf(1, (5, 6)))
    honest = join_nodes(left, right)
    assert (honest.prompt, honest.tokens) == (8, 10)
    for other in (
        join_nodes(right, left),
        join_nodes(replace(left, prompt=4), replace(right, prompt=4)),
        join_nodes(replace(left, prompt=4, tokens=3), right),
        join_nodes(left, replace(right, prompt=6, tokens=5)),
    ):
        assert other.hash != honest.hash
