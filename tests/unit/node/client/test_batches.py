"""When a statement of finished requests is due, and how many requests go into one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inference.serving.finished import FinishedRequest
from inference.serving.statements import make_statement
from node.client.batches import Batches, BatchRules, compute_gross, make_finished_leaf, split_batch
from proto_specs.limits import STATEMENT_SPANS_MAX
from proto_specs.types.request import (
    SignedStageRoots,
    StageRoots,
    Voucher,
    compute_request_id,
    compute_tokens_hash,
    sign_order,
    sign_voucher,
)
from tests.property.inference.serving.harness import SESSION_KEY, WORKER_KEYS, make_order

PROMPT = tuple(range(100, 140))
STAGES = 3
RULES = BatchRules(requests_max=4, wait_s=30.0)
RICH = {key.public_key: 10**9 for key in WORKER_KEYS}


def finish(sequence: int, session: bytes = bytes(32), start: int | None = None) -> FinishedRequest:
    """A request of 41 positions and two tokens."""
    at = 1_000 * sequence if start is None else start
    changes = {"sequence": sequence, "session": session, "slice_start": at, "slice_end": at + 1_000}
    order = replace(make_order(PROMPT, 2, STAGES).order, **changes)  # type: ignore[arg-type]
    request = compute_request_id(order)
    told = compute_tokens_hash(compute_tokens_hash(bytes(32), 1), 2)
    voucher = sign_voucher(Voucher(request, 2, told, True), SESSION_KEY)
    roots = tuple(
        SignedStageRoots(StageRoots(request, at, 2, 41, bytes([at]) * 32, bytes([at + 1]) * 32), bytes(64))
        for at in range(STAGES)
    )
    return FinishedRequest(sign_order(order, SESSION_KEY), voucher, roots)


def test_enough_requests_are_due_and_so_is_an_old_one() -> None:
    batches = Batches(RULES)
    for sequence in range(3):
        batches.add(finish(sequence), SESSION_KEY, RICH, 100.0 + sequence)
    assert batches.take_due(129.9) == []
    (batch,) = batches.take_due(130.0)
    assert len(batch.finished) == 3
    for sequence in range(4):
        batches.add(finish(sequence), SESSION_KEY, RICH, 200.0)
    (batch,) = batches.take_due(200.0)
    assert len(batch.finished) == 4
    assert batches.take_due(10**9) == []


def test_sessions_and_paths_are_apart() -> None:
    batches = Batches(RULES)
    other = finish(1, b"s" * 32)
    for one in (finish(0), other):
        batches.add(one, SESSION_KEY, RICH, 0.0)
    assert (batches.count(bytes(32)), batches.count(b"s" * 32), batches.count(b"x" * 32)) == (1, 1, 0)
    batches.hurry(b"s" * 32)
    (batch,) = batches.take_due(1.0)
    assert (batch.session, batch.finished) == (b"s" * 32, [other])
    (batch,) = batches.take_of(bytes(32))
    assert batch.session == bytes(32)
    assert batches.take_of(bytes(32)) == []


def test_a_bond_that_bears_little_hurries() -> None:
    batches = Batches(RULES)
    gross = compute_gross(finish(0))[1]
    poor = {**RICH, WORKER_KEYS[1].public_key: 4 * gross}
    batches.add(finish(0), SESSION_KEY, poor, 0.0)
    assert batches.take_due(1.0) == []
    batches.add(finish(1), SESSION_KEY, poor, 0.0)
    assert len(batches.take_due(1.0)) == 1


@pytest.mark.parametrize(("bears", "sizes"), [(10**9, [4, 4, 2]), (3, [3, 3, 3, 1]), (1, [1] * 10)])
def test_a_statement_is_within_the_rules_and_every_bond(bears: int, sizes: list[int]) -> None:
    batches = Batches(RULES)
    gross = compute_gross(finish(0))[1]
    most = {**RICH, WORKER_KEYS[1].public_key: bears * gross}
    for sequence in reversed(range(10)):
        batches.add(finish(sequence), SESSION_KEY, most, 0.0)
    (batch,) = batches.take_of(bytes(32))
    parts = split_batch(batch, RULES)
    assert [len(one) for one in parts] == sizes
    assert [each.order.sequence for one in parts for each in one] == list(range(10))


def test_numbers_far_apart_are_split_so_that_the_chain_takes_them() -> None:
    batches = Batches(BatchRules())
    count = STATEMENT_SPANS_MAX + 10
    for sequence in range(count):
        batches.add(finish(2 * sequence), SESSION_KEY, RICH, 0.0)
    (batch,) = batches.take_of(bytes(32))
    parts = split_batch(batch, BatchRules())
    assert [len(one) for one in parts] == [STATEMENT_SPANS_MAX, 10]
    for part in parts:
        make_statement(bytes(32), bytes(32), batch.path, [make_finished_leaf(one) for one in part])


def test_slices_in_another_order_than_numbers_are_split_as_well() -> None:
    batches = Batches(BatchRules())
    count = STATEMENT_SPANS_MAX + 1
    for sequence in range(count):
        batches.add(finish(sequence, start=3_000 * (count - sequence)), SESSION_KEY, RICH, 0.0)
    (batch,) = batches.take_of(bytes(32))
    for part in split_batch(batch, BatchRules()):
        make_statement(bytes(32), bytes(32), batch.path, [make_finished_leaf(one) for one in part])
