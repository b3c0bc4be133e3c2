"""A worker that fails is left out for a time that doubles; success and time forgive."""

from __future__ import annotations

from node.client.worker_memory import BACKOFF_S_MAX, FORGET_S, WORKERS_MAX, WorkerMemory

WORKER, OTHER = b"w" * 32, b"o" * 32


def find_wait(memory: WorkerMemory, now_s: float) -> float:
    wait_s = 0.0
    while memory.is_avoided(WORKER, now_s + wait_s):
        wait_s += 1
    return wait_s


def test_each_failure_in_a_row_doubles_the_time_up_to_a_bound() -> None:
    memory = WorkerMemory()
    waits = []
    for number in range(9):
        memory.note_failed(WORKER, 100.0 * number)
        waits.append(find_wait(memory, 100.0 * number))
    assert waits == [5, 10, 20, 40, 80, 160, BACKOFF_S_MAX, BACKOFF_S_MAX, BACKOFF_S_MAX]
    assert not memory.is_avoided(OTHER, 800.0)


def test_success_forgets_failures() -> None:
    memory = WorkerMemory()
    for _ in range(4):
        memory.note_failed(WORKER, 0.0)
    memory.note_reached(WORKER, 0.01, 1.0)
    assert not memory.is_avoided(WORKER, 1.0)
    memory.note_failed(WORKER, 2.0)
    assert find_wait(memory, 2.0) == 5


def test_fast_workers_come_first_then_unknown_ones_then_slow_and_failed_ones() -> None:
    memory = WorkerMemory()
    fast, slow, failed = b"1" * 32, b"2" * 32, b"3" * 32
    memory.note_reached(fast, 0.01, 0.0)
    memory.note_reached(slow, 0.8, 0.0)
    memory.note_failed(failed, 0.0)
    ranked = sorted((slow, failed, WORKER, fast), key=lambda one: memory.get_rank(one, 1.0))
    assert ranked == [fast, WORKER, slow, failed]
    ranks = {memory.get_rank(one, FORGET_S + 1) for one in ranked}
    assert len(ranks) == 1, "old news is no news"


def test_it_is_bounded() -> None:
    memory = WorkerMemory()
    memory.note_failed(WORKER, 0.0)
    for number in range(WORKERS_MAX):
        memory.note_failed(number.to_bytes(32, "big"), 1.0)
    assert not memory.is_avoided(WORKER, 1.0), "the oldest made room"
    assert memory.is_avoided(bytes(32), 1.0)
