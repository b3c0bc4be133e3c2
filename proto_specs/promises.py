"""What a client promises by an order, and when two promises contradict each other: for chain, workers and clients."""

from __future__ import annotations

from dataclasses import dataclass

from proto_specs.types.request import Order, compute_request_id
from proto_specs.types.statement import Statement
from proto_specs.types.sum_tree import RequestLeaf


@dataclass(frozen=True, slots=True)
class Promise:
    """A request's sequence number and its slice [start, end) of the session's positions, in nmyl."""

    request: bytes
    sequence: int
    start: int
    end: int


def make_promise(order: Order) -> Promise:
    """What an order promises."""
    return Promise(compute_request_id(order), order.sequence, order.slice_start, order.slice_end)


def make_leaf_promise(leaf: RequestLeaf) -> Promise:
    """What the order was that a request of a statement was served under."""
    return Promise(leaf.request, leaf.sequence, leaf.slice_start, leaf.slice_end)


def is_in_statement(order: Order, statement: Statement) -> bool:
    """Whether a statement settles the order's number or a position of it for others.

    A statement is of requests over one path: an order over another one, be it at other prices, is none of them.
    """
    is_numbered = any(one.start <= order.sequence < one.end for one in statement.sequences)
    touches = any(max(one.start, order.slice_start) < min(one.end, order.slice_end) for one in statement.slices)
    return order.path != statement.path and (is_numbered or touches)


def is_conflict(one: Promise, other: Promise) -> bool:
    """Whether two requests of one session share their sequence number or a position."""
    if one.request == other.request:
        return False
    return one.sequence == other.sequence or max(one.start, other.start) < min(one.end, other.end)
