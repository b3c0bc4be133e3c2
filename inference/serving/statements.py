"""What a statement says of finished requests, made and checked alike by client, workers and verifiers. Pure.

A client makes a leaf of each request that ran to its end or was left, and the statement of the leaves. A worker signs
only what it can build again from the leaves, each of which it has compared with its own record. A verifier checks the
one leaf that the beacon's point falls on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from proto_specs.errors import MyelinError
from proto_specs.limits import STATEMENT_REQUESTS_MAX, STATEMENT_SPANS_MAX
from proto_specs.order_rules import ModelBounds, OrderInvalid, validate_order, validate_positions
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import (
    Order,
    PathStage,
    StageRoots,
    Voucher,
    compute_request_id,
    compute_settled_price,
    compute_windows,
)
from proto_specs.types.statement import Span, Statement
from proto_specs.types.sum_tree import RequestLeaf, list_levels

_FROM_ORDER = ("sequence", "slice_start", "slice_end", "prompt_tokens", "settled_positions")


class StatementInvalid(MyelinError):
    """A statement, or the leaf of a request in it, is not true, or not one that the chain takes. The text says why."""


def make_leaf(order: Order, voucher: Voucher, boundaries: Sequence[bytes], positions: int) -> RequestLeaf:
    """The leaf of a request: its order, the last voucher, and the roots of all boundaries over `positions`."""
    return RequestLeaf(
        request=compute_request_id(order),
        sequence=order.sequence,
        slice_start=order.slice_start,
        slice_end=order.slice_end,
        prompt_tokens=order.prompt_tokens,
        settled_positions=order.settled_positions,
        positions=positions,
        tokens=voucher.tokens,
        tokens_hash=voucher.tokens_hash,
        final=voucher.final,
        boundaries=tuple(boundaries),
    )


def check_leaf(leaf: RequestLeaf, order: Order, bounds: ModelBounds) -> None:
    """The leaf is that of the order, which can be judged, and could be settled by itself. Raises StatementInvalid."""
    if leaf.request != compute_request_id(order):
        raise StatementInvalid("the leaf is of another order")
    for name in _FROM_ORDER:
        if getattr(leaf, name) != getattr(order, name):
            raise StatementInvalid(f"{name} is {getattr(leaf, name)} in the leaf, {getattr(order, name)} in its order")
    if len(leaf.boundaries) != len(order.path) + 1:
        raise StatementInvalid(f"{len(leaf.boundaries)} boundaries for a path of {len(order.path)} stages")
    try:
        validate_order(order, bounds)
        validate_positions(order, leaf.tokens, leaf.positions, is_final=leaf.final)
    except OrderInvalid as error:
        raise StatementInvalid(f"request {leaf.sequence} cannot be judged: {error}") from error
    if leaf.tokens == 0 and leaf.tokens_hash != ZERO_HASH:
        raise StatementInvalid("no tokens hash to zero")
    price = compute_settled_price(order, leaf.tokens, leaf.positions)
    if price > leaf.slice_end - leaf.slice_start:
        raise StatementInvalid(f"request {leaf.sequence} costs {price} nmyl, more than its slice")


def check_own_leaf(leaf: RequestLeaf, roots: StageRoots, voucher: Voucher | None) -> None:
    """The leaf says what this stage has: its `roots` over all positions of the leaf, and no less than was vouched for.

    `voucher` is the last one that this stage has of the request. Raises StatementInvalid.
    """
    own = (leaf.request, leaf.positions, *leaf.boundaries[roots.stage : roots.stage + 2])
    if own != (roots.request, roots.positions, roots.input_root, roots.output_root):
        raise StatementInvalid(f"the leaf of request {leaf.sequence} is not what stage {roots.stage} received and sent")
    if voucher is None:
        return
    if leaf.tokens < voucher.tokens:
        raise StatementInvalid(f"{leaf.tokens} tokens are stated, {voucher.tokens} were vouched for")
    if leaf.tokens == voucher.tokens and leaf.tokens_hash != voucher.tokens_hash:
        raise StatementInvalid(f"request {leaf.sequence} states other tokens than were vouched for")


def make_statement(
    genesis: bytes, session: bytes, path: Sequence[PathStage], leaves: Sequence[RequestLeaf]
) -> Statement:
    """The statement of these leaves, which are in the order of their sequence numbers. Raises StatementInvalid."""
    if not 1 <= len(leaves) <= STATEMENT_REQUESTS_MAX:
        raise StatementInvalid(f"a statement is of 1 to {STATEMENT_REQUESTS_MAX} requests, not {len(leaves)}")
    if any(one.own_positions < 1 for one in leaves):
        raise StatementInvalid("a request of a statement bills at least one position")
    numbers = [one.sequence for one in leaves]
    if numbers != sorted(numbers):
        raise StatementInvalid("the requests are not in the order of their numbers")
    root = list_levels(leaves)[-1][0]
    return Statement(
        genesis=genesis,
        session=session,
        path=tuple(path),
        requests=len(leaves),
        prompt_tokens=root.prompt,
        tokens=root.tokens,
        positions=sum(one.own_positions for one in leaves),
        sequences=join_spans([Span(one, one + 1) for one in numbers]),
        slices=join_spans([Span(one.slice_start, one.slice_end) for one in leaves]),
        root=root.hash,
    )


def check_statement(statement: Statement, leaves: Sequence[RequestLeaf]) -> None:
    """The statement is the one of these leaves, to the bit. Raises StatementInvalid."""
    made = make_statement(statement.genesis, statement.session, statement.path, leaves)
    for name in Statement.__dataclass_fields__:
        if getattr(made, name) != getattr(statement, name):
            raise StatementInvalid(f"{name} of the statement are not those of its requests")


def join_spans(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same numbers in their one form: ascending, with gaps between. Raises StatementInvalid where two overlap."""
    joined: list[Span] = []
    for span in sorted(spans, key=lambda one: one.start):
        if span.start >= span.end:
            raise StatementInvalid(f"nothing lies between {span.start} and {span.end}")
        if joined and span.start < joined[-1].end:
            raise StatementInvalid(f"two requests share the number or position {span.start}")
        if joined and span.start == joined[-1].end:
            joined[-1] = replace(joined[-1], end=span.end)
        else:
            joined.append(span)
    if len(joined) > STATEMENT_SPANS_MAX:
        raise StatementInvalid(
            f"{len(joined)} spans with gaps between them, {STATEMENT_SPANS_MAX} at most: state fewer"
        )
    return tuple(joined)


def make_stage_roots(leaf: RequestLeaf, stage: int) -> StageRoots:
    """What a stage committed to for the request of the leaf."""
    windows = compute_windows(leaf.positions)
    return StageRoots(leaf.request, stage, windows, leaf.positions, *leaf.boundaries[stage : stage + 2])
