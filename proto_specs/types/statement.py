"""A statement: many finished requests of one session on one path, settled at once for the price of one (DESIGN 5.1).

Client and all workers of the path sign the same totals, so the chain checks as many signatures as the path has stages,
however many requests there are. Who does not sign leaves the others the settlement of each request by itself.

The requests are leaves of a Merkle sum tree (sum_tree.py), whose root is signed with the totals. The beacon draws a
point below the root's sum; the opening shows the request that covers it.
"""

from __future__ import annotations

from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U32, U64, Max, encode, record
from proto_specs.ed25519 import SigningKey, is_signature_valid
from proto_specs.hashing import Tag, hash_record
from proto_specs.types.common import Hash32, Signature
from proto_specs.types.request import PathStage


@record
class Span:
    """The numbers [start, end)."""

    start: U64
    end: U64


@record
class Statement:
    """The totals of `requests` requests. `prompt_tokens`, billed prompt positions, and `tokens` are the root's sums.

    `positions` are all that were computed and that no statement or settlement before has, billed or not.

    `sequences` and `slices` are the requests' numbers and slices, joined, ascending, with gaps between them.
    """

    genesis: Hash32
    session: Hash32
    path: Annotated[tuple[PathStage, ...], Max(limits.STAGES_MAX)]
    requests: U32
    prompt_tokens: U64
    tokens: U64
    positions: U64
    sequences: Annotated[tuple[Span, ...], Max(limits.STATEMENT_SPANS_MAX)]
    slices: Annotated[tuple[Span, ...], Max(limits.STATEMENT_SPANS_MAX)]
    root: Hash32


@record
class SignedStatement:
    """A statement under the session key and, in path order, under every stage's worker key."""

    statement: Statement
    client_signature: Signature
    worker_signatures: Annotated[tuple[Signature, ...], Max(limits.STAGES_MAX)]


def compute_statement_id(statement: Statement) -> bytes:
    """The 32-byte id: what a settled statement is known by on chain, as a settled request is by its own."""
    return hash_record(Tag.STATEMENT, statement)


def sign_statement_as_client(statement: Statement, session_key: SigningKey) -> bytes:
    """The session key's signature."""
    return session_key.sign(Tag.STATEMENT_CLIENT_SIGN, encode(statement))


def sign_statement_as_worker(statement: Statement, worker_key: SigningKey) -> bytes:
    """A worker key's signature."""
    return worker_key.sign(Tag.STATEMENT_WORKER_SIGN, encode(statement))


def is_statement_signed(signed: SignedStatement, session_key: bytes) -> bool:
    """Whether the session key and every worker of the path signed."""
    data, path = encode(signed.statement), signed.statement.path
    return (
        len(signed.worker_signatures) == len(path)
        and is_signature_valid(session_key, Tag.STATEMENT_CLIENT_SIGN, data, signed.client_signature)
        and all(
            is_signature_valid(stage.worker, Tag.STATEMENT_WORKER_SIGN, data, signature)
            for stage, signature in zip(path, signed.worker_signatures, strict=True)
        )
    )
