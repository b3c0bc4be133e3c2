"""The sum tree over requests: each point falls on the one position that it is drawn for, and nothing else passes."""

from __future__ import annotations

from dataclasses import replace
from itertools import accumulate

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proto_specs.limits import STATEMENT_DEPTH_MAX
from proto_specs.types.sum_tree import (
    RequestLeaf,
    StatementPlace,
    SumNode,
    find_place,
    join_nodes,
    list_levels,
    locate,
    make_leaf_node,
)

HASH = bytes(32)


def make_leaf(sequence: int, own: int, settled: int = 0) -> RequestLeaf:
    """A leaf that bills `own` positions after those settled."""
    return RequestLeaf(
        bytes([sequence % 256]) * 32, sequence, 0, 1, 10, settled, settled + own, 5, HASH, True, (HASH, HASH)
    )


def make_leaves(owns: list[int]) -> list[RequestLeaf]:
    return [make_leaf(number, own, 32 * (number % 3)) for number, own in enumerate(owns)]


OWNS = st.lists(st.integers(1, 40), min_size=1, max_size=20)


@given(OWNS)
def test_every_point_falls_on_the_position_it_counts_to(owns: list[int]) -> None:
    """So a request is drawn in proportion to its positions: of all points exactly as many are its own."""
    leaves = make_leaves(owns)
    levels = list_levels(leaves)
    root = levels[-1][0]
    assert root.sum == sum(owns)
    expected = [(number, within) for number, own in enumerate(owns) for within in range(own)]
    found = []
    for point in range(root.sum):
        place = find_place(leaves, levels, point)
        assert place.leaf == leaves[place.index]
        assert len(place.siblings) <= STATEMENT_DEPTH_MAX
        within = locate(place, len(leaves), root, point)
        assert within is not None
        found.append((place.index, within))
    assert found == expected


@given(OWNS, st.data())
def test_a_place_covers_its_own_points_alone(owns: list[int], data: st.DataObject) -> None:
    leaves = make_leaves(owns)
    levels = list_levels(leaves)
    root = levels[-1][0]
    place = find_place(leaves, levels, data.draw(st.integers(0, root.sum - 1)))
    ends = list(accumulate(owns))
    point = data.draw(st.integers(-1, root.sum + 1))
    start, end = ends[place.index] - owns[place.index], ends[place.index]
    assert locate(place, len(leaves), root, point) == (point - start if start <= point < end else None)


NODE = st.builds(SumNode, st.binary(min_size=32, max_size=32), st.integers(0, 2**64 - 1))


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
    if kind == "own":
        positions = place.leaf.positions + shift
        assume(positions >= 0)
        return replace(place, leaf=replace(place.leaf, positions=positions)), root
    if kind == "index":
        return replace(place, index=draw(st.integers(0, 2**32 - 1))), root
    if kind == "root":
        return place, replace(root, hash=draw(st.binary(min_size=32, max_size=32)))
    if kind == "total":
        return place, replace(root, sum=root.sum + shift)
    if kind in ("sum", "move"):
        siblings[at] = replace(siblings[at], sum=siblings[at].sum + shift)
        if kind == "move":
            other = draw(st.integers(0, len(siblings) - 1))
            siblings[other] = replace(siblings[other], sum=siblings[other].sum - shift)
        assume(all(one.sum >= 0 for one in siblings))
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
@given(OWNS, st.data())
def test_no_changed_place_or_root_passes(owns: list[int], data: st.DataObject) -> None:
    leaves = make_leaves(owns)
    levels = list_levels(leaves)
    root, point = levels[-1][0], data.draw(st.integers(0, sum(owns) - 1))
    place = find_place(leaves, levels, point)
    changed, other_root = data.draw(mutations(place, root))
    assume((changed, other_root) != (place, root))
    assert locate(changed, len(leaves), other_root, point) is None


@given(st.lists(NODE, max_size=STATEMENT_DEPTH_MAX), st.integers(0, 2**32 - 1), st.integers(0, 2**17), NODE)
def test_a_hostile_place_is_refused_without_an_error(
    siblings: list[SumNode], index: int, requests: int, root: SumNode
) -> None:
    """Sums near 2^64, positions below those settled: bounded work, no exception."""
    for leaf in (make_leaf(0, 5), make_leaf(0, -5, 32), make_leaf(0, 2**32 - 1)):
        assert locate(StatementPlace(leaf, index, tuple(siblings)), requests, root, 0) is None


def test_a_node_is_no_leaf_and_binds_the_side_of_each_sum() -> None:
    left, right = make_leaf_node(make_leaf(0, 3)), make_leaf_node(make_leaf(1, 4))
    assert join_nodes(left, right) != join_nodes(right, left)
    moved = join_nodes(replace(left, sum=4), replace(right, sum=3))
    assert (moved.sum, moved.hash == join_nodes(left, right).hash) == (7, False)
