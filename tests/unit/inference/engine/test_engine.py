"""The stage engine, its KV budget and its scheduler: many requests, refusals, rollback, fairness."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from inference.engine.engine import (
    PROMISED_SHARE_MAX,
    ForwardCall,
    StageEngine,
    load_session,
)
from inference.engine.kv import KvBudget
from inference.engine.kv_memory import KvCache, KvMemory
from inference.engine.rows import Rows, StageOutput
from inference.engine.scheduler import CHUNK_ROWS_MAX, TAIL_ROWS_MAX, EngineStep, Scheduler, Work
from inference.errors import EngineError, KvExhaustedError, ModelError, StoreError
from inference.model.graph.shard import ShardRange
from inference.model.store import find_unit
from proto_specs.types.manifest import UnitKind
from tests.unit.inference.conftest import TinyModel

TOKENS = np.random.default_rng(2).integers(0, 200, 64).astype(np.uint32)
A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


@pytest.fixture
def engine(model: TinyModel) -> StageEngine:
    return StageEngine(load_session(model.store, model.model_id, 0, 3), kv_positions=100)


def forward(
    engine: StageEngine, request: bytes, start: int, rows: Rows, logit_rows: tuple[int, ...] = ()
) -> StageOutput:
    """A step of one request; raises what a step answers."""
    (answer,) = engine.forward_batch([ForwardCall(request, start, rows, logit_rows)])
    if isinstance(answer, ModelError):
        raise answer
    return answer


def assert_length(engine: StageEngine, request: bytes, length: int) -> None:
    """A request has computed so many positions: rows beyond them are refused, with the number."""
    with pytest.raises(EngineError, match=f"do not follow the {length} computed"):
        forward(engine, request, length + 1, TOKENS[:1])


def test_interleaved_requests_do_not_touch_each_other(engine: StageEngine) -> None:
    alone = engine.session.run(engine.session.open_kv(20), TOKENS[:20])
    other = engine.session.run(engine.session.open_kv(20), TOKENS[20:40])
    engine.open(A, 20)
    engine.open(B, 20)
    for start in range(0, 20, 4):
        calls = [
            ForwardCall(A, start, TOKENS[start : start + 4]),
            ForwardCall(B, start, TOKENS[20 + start : 24 + start]),
        ]
        first, second = engine.forward_batch(calls)
        assert isinstance(first, StageOutput)
        assert isinstance(second, StageOutput)
        assert_array_equal(first.hidden, alone.hidden[start : start + 4])
        assert_array_equal(second.hidden, other.hidden[start : start + 4])
    assert_length(engine, A, 20)
    assert_length(engine, B, 20)


@pytest.mark.parametrize(("idle_positions_max", "expected"), [(4_096, [6]), (10, [3, 3])])
def test_sequences_run_together_over_idle_ones_that_are_short(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch, idle_positions_max: int, expected: list[int]
) -> None:
    monkeypatch.setattr("inference.engine.engine.IDLE_POSITIONS_MAX", idle_positions_max)
    engine = StageEngine(load_session(model.store, model.model_id, 0, 3), kv_positions=1_000)
    names = [bytes([at]) * 32 for at in range(10)]
    for name in names:
        engine.open(name, 20)
        forward(engine, name, 0, TOKENS[:8])
    alone = engine.session.run(engine.session.open_kv(20), TOKENS[:10])
    together: list[int] = []
    run_together = engine.session.run_together

    def spy(sequences: Sequence[KvCache], *rest: Any) -> list[StageOutput]:
        together.append(len(sequences))
        return run_together(sequences, *rest)

    monkeypatch.setattr(engine.session, "run_together", spy)
    for at, chosen in ((8, [*names[:3], *names[-3:]]), (8, names[3:7]), (9, names)):
        answers = engine.forward_batch([ForwardCall(name, at, TOKENS[at : at + 1]) for name in chosen])
        for answer in answers:
            assert isinstance(answer, StageOutput)
            assert_allclose(answer.hidden, alone.hidden[at : at + 1], rtol=1e-4, atol=1e-4)
    assert together == [*expected, 4, 10], "and those that lay idle lost nothing"


def test_a_request_is_admitted_by_what_it_may_grow_to(engine: StageEngine) -> None:
    for number in range(PROMISED_SHARE_MAX):
        engine.open(bytes([number]) * 32, 100)
    with pytest.raises(KvExhaustedError) as caught:
        engine.open(A, 1)
    assert (caught.value.requested, caught.value.free) == (1, 0)
    assert engine.budget.free == 100, "memory is taken when it is used"
    engine.close(bytes(32))
    engine.close(bytes(32))
    with pytest.raises(KvExhaustedError):
        engine.open(A, 101)
    engine.open(A, 100)
    with pytest.raises(EngineError, match="not open"):
        forward(engine, B, 0, TOKENS[:1])


def test_a_refused_open_promises_nothing(model: TinyModel) -> None:
    engine = StageEngine(load_session(model.store, model.model_id, 0, 1, verify=False), kv_positions=200)
    for positions in (701, 0):
        with pytest.raises(EngineError, match="1 to 700 positions"):
            engine.open(A, positions)
    for number in range(PROMISED_SHARE_MAX):
        engine.open(bytes([number]) * 32, 200)
    with pytest.raises(EngineError, match="open already"):
        engine.open(bytes(32), 5)


def test_memory_is_taken_as_it_is_used_and_given_back(engine: StageEngine) -> None:
    engine.open(A, 90)
    forward(engine, A, 0, TOKENS[:40])
    assert engine.budget.free == 60
    engine.close(A)
    assert engine.budget.free == 100


def test_positions_must_follow_and_can_be_taken_back(engine: StageEngine) -> None:
    engine.open(A, 30)
    first = forward(engine, A, 0, TOKENS[:10], (9,))
    for start in (0, 9, 11):
        with pytest.raises(EngineError, match="do not follow the 10"):
            forward(engine, A, start, TOKENS[:1])
    forward(engine, A, 10, TOKENS[30:35])
    engine.truncate(A, 9)
    again = forward(engine, A, 9, TOKENS[9:10], (0,))
    assert_allclose(again.logits, first.logits, rtol=0, atol=1e-5)


def test_one_failing_call_disturbs_no_other(engine: StageEngine) -> None:
    engine.open(A, 5)
    engine.open(B, 5)
    calls = [ForwardCall(A, 0, TOKENS[:6]), ForwardCall(C, 0, TOKENS[:1]), ForwardCall(B, 0, TOKENS[:2])]
    first, second, third = engine.forward_batch(calls)
    assert isinstance(first, EngineError)
    assert isinstance(second, EngineError)
    assert isinstance(third, StageOutput)
    assert_length(engine, A, 0)
    assert_length(engine, B, 2)


def test_calls_from_many_threads_are_serialised(engine: StageEngine) -> None:
    alone = engine.session.run(engine.session.open_kv(20), TOKENS[:20])
    results: dict[int, np.ndarray] = {}

    def serve(number: int) -> None:
        request = bytes([number]) * 32
        engine.open(request, 20)
        rows = [forward(engine, request, start, TOKENS[start : start + 5]).hidden for start in range(0, 20, 5)]
        results[number] = np.concatenate(rows)
        engine.close(request)

    threads = [threading.Thread(target=serve, args=(number,)) for number in range(5)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len(results) == 5
    for rows in results.values():
        assert_array_equal(rows, alone.hidden)


def test_loading_verifies_what_it_loads(model: TinyModel) -> None:
    path = model.store.get_unit_path(model.model_id, find_unit(model.manifest, UnitKind.LAYER, 2))
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        load_session(model.store, model.model_id, 0, 2)
        with pytest.raises(StoreError, match=r"layer-002.bin does not hash"):
            load_session(model.store, model.model_id, 1, 3)
    finally:
        path.write_bytes(whole)


def test_a_reservation_is_a_context_and_is_given_back_once() -> None:
    budget = KvBudget(10)
    with budget.reserve(7) as held:
        assert (held.positions, budget.free) == (7, 3)
        held.release()
        held.release()
    assert budget.free == 10
    with pytest.raises(EngineError):
        KvBudget(0)


def test_every_decode_goes_first_then_one_chunk_that_ends_at_a_window() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(A, 5, 100 + TAIL_ROWS_MAX)
    scheduler.enqueue(C, 0, 64)
    scheduler.enqueue(B, 40, 1)
    step = scheduler.schedule()
    assert step == EngineStep((Work(B, 40, 1), Work(A, 5, 27)))
    assert scheduler.schedule() == EngineStep((Work(C, 0, 32),)), "what runs is not named twice"
    scheduler.update(step)
    scheduler.remove(C)
    seen = []
    while (step := scheduler.schedule()).works:
        seen += [(work.start, work.count) for work in step.works]
        scheduler.update(step)
    assert seen == [(32, 32), (64, 32), (96, 9 + TAIL_ROWS_MAX)]


def test_a_tail_that_costs_less_than_a_call_goes_along() -> None:
    for count, pieces in ((64, [32, 32]), (64 + TAIL_ROWS_MAX, [32, 32 + TAIL_ROWS_MAX]), (1 + 32, [33])):
        scheduler = Scheduler()
        scheduler.enqueue(A, 0, count)
        seen = []
        while (step := scheduler.schedule()).works:
            seen += [work.count for work in step.works]
            scheduler.update(step)
        assert seen == pieces
    scheduler = Scheduler()
    scheduler.enqueue(A, 0, CHUNK_ROWS_MAX + 1)
    assert [work.count for work in scheduler.schedule(get_chunk_rows=lambda _: CHUNK_ROWS_MAX).works] == [256]


def test_a_long_prompt_shares_steps_with_decoding_requests() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(A, 0, 320)
    for at in range(10):
        scheduler.enqueue(B, at, 1)
        step = scheduler.schedule()
        assert {work.request_id for work in step.works} == {A, B}
        scheduler.update(step)


def test_prompts_take_turns_chunk_by_chunk() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(A, 0, 96)
    scheduler.enqueue(B, 0, 96)
    order = []
    while (step := scheduler.schedule()).works:
        (work,) = step.works
        order.append(work.request_id)
        scheduler.update(step)
    assert order == [A, B, A, B, A, B]


def test_a_request_that_lost_its_memory_runs_again_from_the_start() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(A, 0, 60)
    for _ in range(2):
        scheduler.update(scheduler.schedule())
    scheduler.enqueue(A, 60, 1)
    scheduler.restart(A)
    seen = []
    while (step := scheduler.schedule()).works:
        seen += step.works
        scheduler.update(step)
    assert seen == [Work(A, 0, 32, True), Work(A, 32, 28, True), Work(A, 60, 1)]


def test_scheduler_rejects_gaps_and_forgets_removed_requests() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(A, 0, 3)
    for start, count in ((2, 1), (4, 1), (3, 0), (-1, 1)):
        with pytest.raises(EngineError):
            scheduler.enqueue(A, start, count)
    step = scheduler.schedule()
    scheduler.remove(A)
    scheduler.update(step)
    assert scheduler.schedule() == EngineStep(())


def test_drafted_positions_run_as_a_decode_and_are_taken_back_by_what_follows() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(A, 0, 3)
    scheduler.enqueue(B, 0, 40)
    with pytest.raises(EngineError, match="before the answer"):
        scheduler.enqueue(A, 3, 4, 3)
    scheduler.update(scheduler.schedule())
    scheduler.enqueue(A, 3, 4, 3)
    scheduler.enqueue(C, 9, 1)
    step = scheduler.schedule()
    assert step == EngineStep((Work(A, 3, 4), Work(C, 9, 1), Work(B, 0, 40)))
    for start in (4, 7):
        with pytest.raises(EngineError, match="before the answer"):
            scheduler.enqueue(A, start, 1)
    scheduler.update(step)
    for start in (3, 8):
        with pytest.raises(EngineError, match="does not follow 7"):
            scheduler.enqueue(A, start, 1)
    assert scheduler.enqueue(A, 5, 3, 2), "the draft at 4 stood"
    scheduler.update(step := scheduler.schedule())
    assert step == EngineStep((Work(A, 5, 3),))
    assert not scheduler.enqueue(A, 8, 1), "all of it stood"
    with pytest.raises(EngineError, match="drafted"):
        scheduler.enqueue(A, 9, 2, 2)


def test_a_draft_is_taken_back_of_a_request_that_lost_its_memory() -> None:
    scheduler = Scheduler()
    scheduler.enqueue(A, 0, 40)
    scheduler.update(scheduler.schedule())
    scheduler.update(scheduler.schedule())
    scheduler.enqueue(A, 40, 5, 4)
    scheduler.update(scheduler.schedule())
    scheduler.restart(A)
    assert scheduler.enqueue(A, 42, 3, 2)
    seen = []
    while (step := scheduler.schedule()).works:
        seen += step.works
        scheduler.update(step)
    assert seen == [Work(A, 0, 42, True), Work(A, 42, 3)]


def test_drafts_take_the_room_of_as_many_decodes() -> None:
    """Each gets its turn: what did not fit comes first next time."""
    scheduler = Scheduler(decodes_max=6)
    for key, count in ((A, 5), (B, 3), (C, 9)):
        scheduler.enqueue(key, 0, count, count - 1)
    seen = []
    while (step := scheduler.schedule()).works:
        seen.append([work.request_id for work in step.works])
        scheduler.update(step)
    assert seen == [[A], [B], [C]]
    scheduler.enqueue(A, 5, 1)
    scheduler.enqueue(B, 3, 5, 4)
    assert [work.count for work in scheduler.schedule().works] == [1, 5]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(1, 70)), max_size=30), st.integers(1, 8))
def test_every_enqueued_position_runs_exactly_once_in_order(arrivals: list[tuple[int, int]], decodes_max: int) -> None:
    scheduler = Scheduler(decodes_max)
    lengths = dict.fromkeys(range(5), 0)
    done = dict.fromkeys(range(5), 0)
    for key, count in arrivals:
        scheduler.enqueue(bytes([key]), lengths[key], count)
        lengths[key] += count
    while (step := scheduler.schedule()).works:
        assert len(step.works) <= decodes_max + 1
        for work in step.works:
            key = work.request_id[0]
            assert work.start == done[key]
            tail = work.start + work.count - (work.start // 32 + 1) * 32
            assert tail <= 0 or (tail <= TAIL_ROWS_MAX and work.start + work.count == lengths[key])
            done[key] += work.count
        scheduler.update(step)
    assert done == lengths


def test_a_long_context_reserves_more_address_space_than_there_is_memory(model: TinyModel) -> None:
    """Pages come with use: a memory of 16 long sequences is larger than the machine, and costs nothing."""
    architecture = replace(model.manifest.architecture, context_max=1 << 24)
    shard = ShardRange(replace(model.manifest, architecture=architecture), 1, 2)
    memory = KvMemory(shard, 64, 1 << 24)
    assert memory.layers["key.1"].nbytes > 100 << 30


def test_address_space_that_is_not_to_be_had_is_an_engine_error(model: TinyModel) -> None:
    architecture = replace(model.manifest.architecture, context_max=1 << 24)
    shard = ShardRange(replace(model.manifest, architecture=architecture), 1, 2)
    with pytest.raises(EngineError, match="address space"):
        KvMemory(shard, 1 << 20, 1 << 24)


def test_the_runtime_reports_to_nobody(tmp_path: Path) -> None:
    """onnxruntime 1.31.1 writes a device id and events to be sent when it is imported, unless it is told not to."""
    code = "import time, inference.engine.ort; time.sleep(1)"
    environment = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []
