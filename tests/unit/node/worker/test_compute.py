"""The compute loop: memory given back on every way out, the event loop never held up, no wake-up lost."""

from __future__ import annotations

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import trio

from inference.engine.engine import ForwardCall
from inference.engine.kv import KvBudget, KvReservation
from inference.engine.rows import StageOutput
from inference.errors import EngineError, KvExhaustedError, ModelError, WireDtypeError
from inference.serving.events import Compute, Computed
from node.worker.compute import Answer, ComputeLoop
from proto_specs.types.manifest import WireDtype
from proto_specs.types.sampling import GrammarKind, SamplingParams, make_grammar
from tests.property.inference.serving.harness import HIDDEN, make_manifest, make_order


class FakeEngine:
    """Adds one to every row. Locks like the real one: open and close wait for a running step."""

    def __init__(self, positions: int) -> None:
        self.budget = KvBudget(positions)
        manifest = make_manifest()
        self.shard = SimpleNamespace(
            is_first=False, is_last=False, end=1, manifest=manifest, architecture=manifest.architecture
        )
        self.session = SimpleNamespace(wire_dtype=WireDtype.FP32)
        self.gate = threading.Event()
        self.gate.set()
        self.fails: set[bytes] = set()
        self._open: dict[bytes, KvReservation] = {}
        self._lock = threading.Lock()
        self.loop_thread = threading.get_ident()

    def open(self, request: bytes, positions: int) -> None:
        assert self._lock.acquire(blocking=False), "the event loop would have waited for a step"
        self._lock.release()
        self._open[request] = self.budget.reserve(positions)

    def make_room(self, request: bytes, end: int, busy: object) -> list[bytes]:
        return []

    def close(self, request: bytes) -> None:
        assert self._lock.acquire(blocking=False), "the event loop would have waited for a step"
        self._lock.release()
        found = self._open.pop(request, None)
        if found is not None:
            found.release()

    def forward_batch(self, calls: list[ForwardCall]) -> tuple[StageOutput | ModelError, ...]:
        assert threading.get_ident() != self.loop_thread
        with self._lock:
            assert self.gate.wait(5)
            return tuple(
                EngineError("broken") if one.request_id in self.fails else StageOutput(one.rows + 1, None, None)
                for one in calls
            )


class Bench:
    def __init__(self, positions: int = 100) -> None:
        self.engine = FakeEngine(positions)
        self.loop = ComputeLoop(self.engine, None)  # type: ignore[arg-type]
        self.sent, self.answers = trio.open_memory_channel[tuple[bytes, Answer]](1000)

    async def open(self, request: bytes, positions: int = 10) -> None:
        order = make_order((1,), positions, 3).order
        await self.loop.open(request, order, b"", b"", lambda one: self.sent.send_nowait((request, one)))


def rows(value: float, count: int = 1) -> bytes:
    return np.full((count, HIDDEN), value, dtype="<f4").tobytes()


async def test_rows_are_computed_in_order_and_answered_to_their_request(nursery) -> None:
    bench = Bench()
    nursery.start_soon(bench.loop.run)
    for request in (b"a", b"b"):
        await bench.open(request)
    bench.loop.submit(b"a", Compute(0, 1, rows(1)))
    bench.loop.submit(b"a", Compute(1, 1, rows(2)))
    bench.loop.submit(b"b", Compute(0, 1, rows(3)))
    found: dict[bytes, bytes] = {b"a": b"", b"b": b""}
    with trio.fail_after(5):
        while found != {b"a": rows(2) + rows(3), b"b": rows(4)}:
            request, answer = await bench.answers.receive()
            assert isinstance(answer, Computed)
            found[request] += answer.payload


async def test_work_that_comes_while_nothing_runs_wakes_the_loop(nursery) -> None:
    bench = Bench()
    nursery.start_soon(bench.loop.run)
    await bench.open(b"a")
    with trio.fail_after(5):
        for position in range(5):
            await trio.testing.wait_all_tasks_blocked()
            bench.loop.submit(b"a", Compute(position, 1, rows(position)))
            assert (await bench.answers.receive())[0] == b"a"


async def test_closing_during_a_step_waits_beside_the_loop_and_drops_the_answer(nursery) -> None:
    bench = Bench()
    nursery.start_soon(bench.loop.run)
    await bench.open(b"a")
    bench.engine.gate.clear()
    bench.loop.submit(b"a", Compute(0, 1, rows(1)))
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as closing:
        closing.start_soon(bench.loop.close, b"a")
        await trio.testing.wait_all_tasks_blocked()
        assert bench.engine.budget.free == 90
        bench.engine.gate.set()
    assert bench.engine.budget.free == 100
    with pytest.raises(trio.WouldBlock):
        bench.answers.receive_nowait()


async def test_memory_comes_back_when_the_closing_task_is_cancelled(nursery) -> None:
    bench = Bench()
    nursery.start_soon(bench.loop.run)
    await bench.open(b"a")
    with trio.CancelScope() as scope:
        scope.cancel()
        await bench.loop.close(b"a")
    assert bench.engine.budget.free == 100


async def test_a_full_budget_is_refused_and_nothing_leaks() -> None:
    bench = Bench(15)
    await bench.open(b"a", 10)
    with pytest.raises(KvExhaustedError):
        await bench.open(b"b", 10)
    assert bench.engine.budget.free == 5
    await bench.loop.close(b"b")
    await bench.loop.close(b"a")
    await bench.loop.close(b"a")
    assert bench.engine.budget.free == 15


async def test_a_cancelled_opening_reserves_nothing() -> None:
    bench = Bench()
    with trio.CancelScope() as scope:
        scope.cancel()
        await bench.open(b"a")
    assert bench.engine.budget.free == 100


async def test_a_request_opened_again_does_not_get_the_answers_of_the_first(nursery) -> None:
    bench = Bench()
    nursery.start_soon(bench.loop.run)
    await bench.open(b"a")
    bench.engine.gate.clear()
    bench.loop.submit(b"a", Compute(0, 1, rows(1)))
    await trio.testing.wait_all_tasks_blocked()
    async with trio.open_nursery() as other:
        other.start_soon(bench.loop.close, b"a")
        await trio.testing.wait_all_tasks_blocked()
        other.start_soon(bench.open, b"a")
        await trio.testing.wait_all_tasks_blocked()
        bench.engine.gate.set()
    bench.loop.submit(b"a", Compute(0, 1, rows(5)))
    with trio.fail_after(5):
        _, answer = await bench.answers.receive()
    assert isinstance(answer, Computed)
    assert answer.payload == rows(6)


async def test_one_request_s_fault_is_its_own(nursery) -> None:
    bench = Bench()
    bench.engine.fails.add(b"broken")
    nursery.start_soon(bench.loop.run)
    for request in (b"nan", b"broken", b"good"):
        await bench.open(request)
        bench.loop.submit(request, Compute(0, 1, rows(float("nan") if request == b"nan" else 1)))
    found = {}
    with trio.fail_after(5):
        for _ in range(3):
            request, found[request] = await bench.answers.receive()
    assert isinstance(found[b"nan"], WireDtypeError)
    assert isinstance(found[b"broken"], EngineError)
    assert isinstance(found[b"good"], Computed)


async def test_a_grammar_that_is_read_holds_up_no_other_opening() -> None:
    """Its text costs the sender nothing: orders are released when it is refused, and may come again."""
    gate, is_reading = threading.Event(), threading.Event()

    class Choosers:
        def make(self, params: SamplingParams, prompt: object, grammar: bytes, drawn: object) -> None:
            if params.grammar is not None:
                is_reading.set()
                assert gate.wait(5)

    bench = Bench()
    bench.engine.shard.is_last = True
    bench.loop = ComputeLoop(bench.engine, Choosers())  # type: ignore[arg-type]
    bench.loop._batcher.open = lambda *_: None  # type: ignore[method-assign]  # noqa: SLF001
    plain = make_order((1,), 10, 3).order
    slow = replace(plain, sampling=replace(plain.sampling, grammar=make_grammar(GrammarKind.LARK, b"x")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.loop.open, b"slow", slow, b"", b"x", lambda _: None)
        await trio.to_thread.run_sync(is_reading.wait)
        with trio.fail_after(3):
            await bench.loop.open(b"plain", plain, b"", b"", lambda _: None)
        gate.set()
