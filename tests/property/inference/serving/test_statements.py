"""Statements over real records: every drawn point opens to its window, and what a party did not sign is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference.serving.opening import AuthenticOpening, CommittedStatement, OpeningError, authenticate_statement_opening
from inference.serving.record import RequestRecord, make_opening
from inference.serving.statements import (
    StatementInvalid,
    check_leaf,
    check_own_leaf,
    check_statement,
    join_spans,
    make_leaf,
    make_stage_roots,
    make_statement,
)
from proto_specs.codec import decode, encode
from proto_specs.limits import STATEMENT_SPANS_MAX, WINDOW_POSITIONS
from proto_specs.order_rules import make_bounds
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import Opening, Order, Voucher, compute_windows, sign_order
from proto_specs.types.statement import Span, Statement
from proto_specs.types.sum_tree import RequestLeaf, SumNode, find_place, list_levels, locate
from tests.property.inference.serving.harness import SESSION_KEY, Path, make_manifest, make_order

STAGES = 3
LENGTHS = ((45, 40), (3, 5), (64, 1), (1, 33))
"""Prompt and answer of each request."""
PRICE_MAX = 10_000
BOUNDS = make_bounds(make_manifest())


@dataclass(frozen=True)
class Stated:
    """Finished requests with the statement of them."""

    leaves: list[RequestLeaf]
    orders: list[Order]
    vouchers: list[Voucher]
    records: list[dict[int, RequestRecord]]
    statement: Statement

    @property
    def root(self) -> SumNode:
        return SumNode(self.statement.root, self.statement.prompt_tokens, self.statement.tokens)

    @property
    def committed(self) -> CommittedStatement:
        stages = tuple((one.worker, one.start, one.end) for one in self.statement.path)
        return CommittedStatement(ZERO_HASH, ZERO_HASH, ZERO_HASH, stages, len(self.leaves), self.root)

    def open(self, stage: int, point: int) -> Opening:
        """What an honest worker answers."""
        place = find_place(self.leaves, list_levels(self.leaves), point)
        position = locate(place, len(self.leaves), self.root, point)
        assert position is not None
        return replace(make_opening(self.records[place.index][stage], position // WINDOW_POSITIONS), place=place)

    def authenticate(self, opening: Opening, stage: int, point: int) -> AuthenticOpening:
        key = SESSION_KEY.public_key
        return authenticate_statement_opening(opening, self.committed, stage, point, key, make_manifest())


def run(number: int, prompt: int, tokens: int) -> tuple[RequestLeaf, Order, Voucher, dict[int, RequestRecord]]:
    """One request to its end, with its own number and slice."""
    ids = tuple(range(100, 100 + prompt))
    order = make_order(ids, tokens, STAGES).order
    start = number * PRICE_MAX
    signed = sign_order(replace(order, sequence=number, slice_start=start, slice_end=start + PRICE_MAX), SESSION_KEY)
    outcome = Path(signed, ids, None, seed=number).run()
    assert outcome.settlement is not None
    roots = [one.roots for one in outcome.settlement.stage_roots]
    boundaries = [roots[0].input_root, *(one.output_root for one in roots)]
    voucher = outcome.settlement.voucher.voucher
    return make_leaf(signed.order, voucher, boundaries, roots[0].positions), signed.order, voucher, outcome.records


def state(leaves: list[RequestLeaf], order: Order) -> Statement:
    return make_statement(order.genesis, order.session, order.path, leaves)


@pytest.fixture(scope="module")
def stated() -> Stated:
    runs = [run(number, *lengths) for number, lengths in enumerate(LENGTHS)]
    leaves, orders, vouchers, records = (list(one) for one in zip(*runs, strict=True))
    return Stated(leaves, orders, vouchers, records, state(leaves, orders[0]))


@pytest.mark.parametrize("stage", range(STAGES))
def test_every_point_opens_to_the_window_it_falls_in(stated: Stated, stage: int) -> None:
    prompts = [(n, at) for n, (prompt, _) in enumerate(LENGTHS) for at in range(prompt)]
    tokens = [(n, LENGTHS[n][0] - 1 + at) for n, (_, tokens) in enumerate(LENGTHS) for at in range(tokens)]
    points = [*enumerate(prompts + tokens)]
    assert len(points) == stated.statement.prompt_tokens + stated.statement.tokens
    for point, (number, position) in points[::11]:
        found = stated.authenticate(decode(Opening, encode(stated.open(stage, point))), stage, point)
        window = position // WINDOW_POSITIONS
        assert found.order.sequence == number
        assert found.window_start == WINDOW_POSITIONS * window <= position < found.positions
        assert found.inputs == b"".join(stated.records[number][stage].input_payloads[: window + 1])


def with_leaf(opening: Opening, **fields: object) -> Opening:
    assert opening.place is not None
    return replace(opening, place=replace(opening.place, leaf=replace(opening.place.leaf, **fields)))


CHANGES: dict[str, Callable[[Opening], Opening]] = {
    "no place": lambda one: replace(one, place=None),
    "another request": lambda one: with_leaf(one, request=bytes(32)),
    "fewer positions": lambda one: with_leaf(one, positions=40),
    "another boundary": lambda one: with_leaf(one, boundaries=(bytes(32),) * (STAGES + 1)),
    "another order": lambda one: replace(one, order=replace(one.order, order=replace(one.order.order, sequence=9))),
    "other input": lambda one: replace(one, input_payloads=(b"\1" * 16, *one.input_payloads[1:])),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_opening_is_refused(stated: Stated, change: str) -> None:
    with pytest.raises(OpeningError):
        stated.authenticate(CHANGES[change](stated.open(1, 40)), 1, 40)


def test_the_opening_of_another_point_is_refused(stated: Stated) -> None:
    """Neither another request nor another window of the same one stands for what was drawn."""
    first = sum(prompt for prompt, _ in LENGTHS)
    points = (10, 44, 46, first, first + 30)
    for shown in points:
        for drawn in points:
            if shown == drawn:
                stated.authenticate(stated.open(1, shown), 1, drawn)
            elif (shown, drawn) != (44, first) and (drawn, shown) != (44, first):
                with pytest.raises(OpeningError):
                    stated.authenticate(stated.open(1, shown), 1, drawn)


def test_the_first_token_falls_where_the_prompt_ends(stated: Stated) -> None:
    first = sum(prompt for prompt, _ in LENGTHS)
    assert stated.open(1, 44) == stated.open(1, first)


def test_an_order_of_elsewhere_is_refused(stated: Stated) -> None:
    opening = stated.open(0, 0)
    others = [{"genesis": bytes([1]) * 32}, {"session": bytes([1]) * 32}, {"model": bytes([1]) * 32}]
    committed = stated.committed
    for other in (*others, {"stages": committed.stages[::-1]}, {"requests": 99}, {"root": SumNode(bytes(32), 1, 1)}):
        wrong = replace(committed, **other)
        with pytest.raises(OpeningError):
            authenticate_statement_opening(opening, wrong, 0, 0, SESSION_KEY.public_key, make_manifest())


WRONG_LEAVES: dict[str, dict[str, object]] = {
    "another order": {"request": bytes(32)},
    "sequence": {"sequence": 77},
    "slice start": {"slice_start": 1},
    "slice end": {"slice_end": 1},
    "prompt": {"prompt_tokens": 44},
    "settled": {"settled_positions": 32},
    "more tokens than ordered": {"tokens": 41},
    "fewer tokens than positions": {"tokens": 39},
    "no tokens with a hash": {"tokens": 0, "positions": 45, "final": False},
    "more positions": {"positions": 85},
    "fewer positions": {"positions": 83},
    "a boundary more": {"boundaries": (ZERO_HASH,) * (STAGES + 2)},
    "no boundaries": {"boundaries": ()},
}


@pytest.mark.parametrize("why", WRONG_LEAVES)
def test_a_leaf_that_is_not_its_orders_is_refused(stated: Stated, why: str) -> None:
    check_leaf(stated.leaves[0], stated.orders[0], BOUNDS)
    with pytest.raises(StatementInvalid):
        check_leaf(replace(stated.leaves[0], **WRONG_LEAVES[why]), stated.orders[0], BOUNDS)


def test_an_order_that_nobody_can_judge_is_in_no_statement(stated: Stated) -> None:
    """Not even when all of its path would sign it."""
    order = stated.orders[0]
    for bad in (
        replace(order, sampling=replace(order.sampling, top_p_milli=0)),
        replace(order, tokens_max=BOUNDS.context_max),
        replace(order, path=order.path[:2]),
        replace(order, slice_end=order.slice_start + 1),
    ):
        leaf = make_leaf(bad, stated.vouchers[0], stated.leaves[0].boundaries[: len(bad.path) + 1], 84)
        with pytest.raises(StatementInvalid):
            check_leaf(leaf, bad, BOUNDS)


def test_a_stage_signs_for_what_it_has(stated: Stated) -> None:
    leaf, voucher = stated.leaves[0], stated.vouchers[0]
    for stage in range(STAGES):
        roots = make_stage_roots(leaf, stage)
        assert (roots.windows, roots.positions) == (compute_windows(84), 84)
        check_own_leaf(leaf, roots, voucher)
        check_own_leaf(leaf, roots, None)
        check_own_leaf(leaf, roots, replace(voucher, tokens=8, tokens_hash=bytes([8]) * 32))
        for wrong in (
            replace(roots, input_root=bytes(32)),
            replace(roots, output_root=bytes(32)),
            replace(roots, positions=83),
            replace(roots, request=bytes(32)),
        ):
            with pytest.raises(StatementInvalid, match="received and sent"):
                check_own_leaf(leaf, wrong, voucher)
    with pytest.raises(StatementInvalid, match="were vouched for"):
        check_own_leaf(leaf, make_stage_roots(leaf, 0), replace(voucher, tokens=41))
    with pytest.raises(StatementInvalid, match="other tokens"):
        check_own_leaf(leaf, make_stage_roots(leaf, 0), replace(voucher, tokens_hash=bytes(32)))


def test_a_statement_is_that_of_its_leaves_alone(stated: Stated) -> None:
    check_statement(stated.statement, stated.leaves)
    for name, wrong in (
        ("requests", 3),
        ("prompt_tokens", 1),
        ("tokens", 2**40),
        ("positions", 5),
        ("sequences", (Span(0, 3),)),
        ("slices", (Span(0, 3 * PRICE_MAX),)),
        ("root", bytes(32)),
    ):
        with pytest.raises(StatementInvalid, match=name):
            check_statement(replace(stated.statement, **{name: wrong}), stated.leaves)
    for leaves in ([], stated.leaves[:-1], stated.leaves[::-1], [stated.leaves[0], *stated.leaves]):
        with pytest.raises(StatementInvalid):
            check_statement(stated.statement, leaves)


def test_two_requests_share_no_number_and_no_position(stated: Stated) -> None:
    first, second = stated.leaves[:2]
    for wrong in ({"sequence": 0}, {"slice_start": PRICE_MAX - 1}, {"slice_end": second.slice_start}):
        with pytest.raises(StatementInvalid):
            state([first, replace(second, **wrong)], stated.orders[0])
    with pytest.raises(StatementInvalid, match="at least one position"):
        state([first, replace(second, settled_positions=second.positions)], stated.orders[0])


@given(st.sets(st.integers(0, 200), min_size=1))
def test_numbers_are_joined_to_their_one_form(numbers: set[int]) -> None:
    spans = [Span(one, one + 1) for one in sorted(numbers, reverse=True)]
    gaps = sum(one - 1 not in numbers for one in numbers)
    if gaps > STATEMENT_SPANS_MAX:
        with pytest.raises(StatementInvalid, match="spans"):
            join_spans(spans)
        return
    joined = join_spans(spans)
    assert [number for one in joined for number in range(one.start, one.end)] == sorted(numbers)
    assert len(joined) == gaps
