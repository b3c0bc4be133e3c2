"""Requests as they are settled: orders, vouchers and roots, signed, over work that nobody computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from node.sim.economy.parties import SimAccount
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types import calls
from proto_specs.types.manifest import ServiceClass
from proto_specs.types.request import (
    Order,
    PathStage,
    StageRoots,
    Voucher,
    compute_positions,
    compute_price_max,
    compute_request_id,
    compute_windows,
    sign_order,
    sign_stage_roots,
    sign_voucher,
)
from proto_specs.types.sampling import SamplingParams

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


def make_order(genesis: bytes, session: OpenedSession, path: tuple[PathStage, ...], lengths: Lengths) -> Order:
    """The session's next order, for exactly its lengths; its slice is what that costs."""
    fields: dict[str, Any] = {
        "genesis": genesis,
        "session": session.id,
        "sequence": session.sequence,
        "slice_start": session.promised,
        "model": session.model,
        "service_class": ServiceClass.EXACT,
        "prompt_hash": bytes(32),
        "prompt_tokens": lengths.prompt,
        "tokens_max": lengths.answer,
        "sampling": GREEDY,
        "path": path,
    }
    price = compute_price_max(Order(slice_end=session.promised + 1, **fields))
    order = Order(slice_end=session.promised + price, **fields)
    session.sequence += 1
    session.promised += price
    return order


def make_settle(order: Order, lengths: Lengths, session_key: SimAccount, workers: Sequence[SimAccount]) -> calls.Settle:
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
    return calls.Settle(
        sign_order(order, session_key.session_key), sign_voucher(voucher, session_key.session_key), roots
    )
