"""Requests as they are settled, singly or by statement: all is signed, over work that nobody computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from node.sim.economy.parties import SimAccount
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types import calls
from proto_specs.types.manifest import ServiceClass
from proto_specs.types.request import (
    Order,
    PathStage,
    StageRoots,
    Voucher,
    compute_positions,
    compute_request_id,
    compute_stage_price,
    compute_windows,
    sign_order,
    sign_stage_roots,
    sign_voucher,
)
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.statement import (
    SignedStatement,
    Span,
    Statement,
    sign_statement_as_client,
    sign_statement_as_worker,
)

GREEDY = SamplingParams(0, 0, 1_000, 0)


@dataclass(frozen=True, slots=True)
class Lengths:
    """Tokens of a prompt and of its answer."""

    prompt: int
    answer: int

    @property
    def positions(self) -> int:
        """Positions that each stage computes."""
        return compute_positions(self.prompt, self.answer)


@dataclass(slots=True)
class OpenedSession:
    """A session of a client on chain, and how much of its deposit is promised."""

    client: SimAccount
    id: bytes
    model: bytes
    deposit: int
    promised: int = 0
    sequence: int = 0

    def promise(self, price: int) -> tuple[int, int]:
        """The next sequence number and the end of the slice that goes with it; the slice began at `promised`."""
        number = self.sequence
        self.sequence += 1
        self.promised += price
        return number, self.promised


def make_order(genesis: bytes, session: OpenedSession, path: tuple[PathStage, ...], lengths: Lengths) -> Order:
    """The session's next order, for exactly its lengths; its slice is what that costs."""
    start = session.promised
    number, end = session.promise(compute_price(path, (lengths,)))
    return Order(
        genesis=genesis,
        session=session.id,
        sequence=number,
        slice_start=start,
        slice_end=end,
        model=session.model,
        service_class=ServiceClass.EXACT,
        prompt_hash=bytes(32),
        prompt_tokens=lengths.prompt,
        tokens_max=lengths.answer,
        sampling=GREEDY,
        path=path,
    )


def make_settle(order: Order, lengths: Lengths, session_key: SigningKey, workers: Sequence[SimAccount]) -> calls.Settle:
    """The settlement of an order that ran to its end: what one stage sent, the next one got."""
    request = compute_request_id(order)
    voucher = Voucher(request, lengths.answer, hash_tagged(Tag.TOKENS, request), final=True)
    windows = compute_windows(lengths.positions)
    boundaries = [hash_tagged(Tag.LEAF, request + bytes([index])) for index in range(len(workers) + 1)]
    roots = tuple(
        sign_stage_roots(
            StageRoots(request, index, windows, lengths.positions, boundaries[index], boundaries[index + 1]),
            worker.worker_key,
        )
        for index, worker in enumerate(workers)
    )
    return calls.Settle(sign_order(order, session_key), sign_voucher(voucher, session_key), roots)


def make_statement(
    genesis: bytes, session: OpenedSession, path: tuple[PathStage, ...], requests: Sequence[Lengths]
) -> Statement:
    """A statement of the session's next requests, their slices one after another.

    The root stands for a tree that is not built: what is drawn of it is looked up, not opened.
    """
    first, start = session.sequence, session.promised
    for one in requests:
        _, end = session.promise(compute_price(path, (one,)))
    return Statement(
        genesis=genesis,
        session=session.id,
        path=path,
        requests=len(requests),
        prompt_tokens=sum(one.prompt for one in requests),
        tokens=sum(one.answer for one in requests),
        positions=sum(one.positions for one in requests),
        sequences=(Span(first, first + len(requests)),),
        slices=(Span(start, end),),
        root=hash_tagged(Tag.STATEMENT_NODE, session.id + first.to_bytes(8, "big")),
    )


def make_settle_statement(
    statement: Statement, session_key: SigningKey, workers: Sequence[SimAccount]
) -> calls.SettleStatement:
    """The statement under all signatures."""
    by_workers = tuple(sign_statement_as_worker(statement, one.worker_key) for one in workers)
    return calls.SettleStatement(
        SignedStatement(statement, sign_statement_as_client(statement, session_key), by_workers)
    )


def compute_price(path: Sequence[PathStage], requests: Sequence[Lengths]) -> int:
    """What these requests cost over a path, in nmyl."""
    prompt, answer = sum(one.prompt for one in requests), sum(one.answer for one in requests)
    return sum(compute_stage_price(stage, prompt, answer) for stage in path)
