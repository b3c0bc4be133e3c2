"""Statements for tests of a world: leaves of honest requests, and the call that settles them, or a changed one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from inference.serving.statements import make_leaf, make_statement
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types import calls
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import Order, Voucher, compute_positions, compute_request_id
from proto_specs.types.statement import (
    SignedStatement,
    Statement,
    compute_statement_id,
    sign_statement_as_client,
    sign_statement_as_worker,
)
from proto_specs.types.sum_tree import RequestLeaf
from tests.unit.consensus.runtime.inference.inference_world import World


def make_honest_leaf(order: Order, tokens: int = 60, final: bool = True) -> RequestLeaf:
    """What an honest path would sign for the order."""
    request = compute_request_id(order)
    boundaries = [hash_tagged(Tag.LEAF, request + bytes([index])) for index in range(len(order.path) + 1)]
    tokens_hash = hash_tagged(Tag.TOKENS, b"tokens") if tokens else ZERO_HASH
    voucher = Voucher(request, tokens, tokens_hash, final)
    return make_leaf(order, voucher, boundaries, compute_positions(order.prompt_tokens, tokens))


def make_leaves(world: World, numbers: Iterable[int], tokens: int = 60, **fields: Any) -> list[RequestLeaf]:
    """A leaf for each number; `fields` are the orders'."""
    return [make_honest_leaf(world.order(number, **fields).order, tokens) for number in numbers]


def state_leaves(world: World, leaves: Sequence[RequestLeaf]) -> Statement:
    """The statement of the leaves over the world's workers."""
    return make_statement(world.chain.genesis.hash, world.session, world.order().order.path, leaves)


def sign_statement(world: World, statement: Statement) -> calls.SettleStatement:
    """The call that settles a statement under the signatures of all."""
    signatures = tuple(sign_statement_as_worker(statement, one.worker_key) for one in world.workers)
    client_signature = sign_statement_as_client(statement, world.session_key)
    return calls.SettleStatement(SignedStatement(statement, client_signature, signatures))


def state_requests(world: World, numbers: Iterable[int], tokens: int = 60, **fields: Any) -> calls.SettleStatement:
    """The call that settles honest requests of these numbers; `fields` are their orders'."""
    return sign_statement(world, state_leaves(world, make_leaves(world, numbers, tokens, **fields)))


def get_id(call: calls.SettleStatement) -> bytes:
    """The id of the statement in a call."""
    return compute_statement_id(call.statement.statement)
