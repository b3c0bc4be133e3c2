"""A worker that fails is left out for a time that doubles; success and time forgive."""

from __future__ import annotations

import pytest

from node.client.worker_memory import (
    BACKOFF_S_MAX,
    FORGET_S,
    HALF_LIFE_S,
    HOPS_MAX,
    REPORT_AGE_S,
    RESTART_US,
    ROOM_AGE_S,
    UNKNOWN,
    WORKERS_MAX,
    WorkerMemory,
)
from tests.unit.node.client.listings import make_report

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


def test_what_is_known_of_a_worker_costs_it_time() -> None:
    memory = WorkerMemory()
    fast, slow, failed = b"1" * 32, b"2" * 32, b"3" * 32
    memory.note_reached(fast, 0.01, 0.0)
    memory.note_reached(slow, 0.8, 0.0)
    memory.note_failed(failed, 0.0)
    assert memory.get_figures(fast, 1.0).round_trip_us == 10_000
    assert memory.get_figures(slow, 1.0).round_trip_us == 800_000
    assert memory.get_figures(failed, 1.0).wait_us > 0
    assert memory.get_figures(WORKER, 1.0) == UNKNOWN
    assert memory.get_figures(slow, FORGET_S + 1) == UNKNOWN, "old news is no news"


def test_failures_weigh_less_with_time_and_success() -> None:
    memory = WorkerMemory()
    for at in range(8):
        memory.note_failed(WORKER, float(at))
        memory.note_completed(OTHER, float(at))
    at_once = memory.get_figures(WORKER, 8.0).wait_us
    later = memory.get_figures(WORKER, 8.0 + 2 * HALF_LIFE_S).wait_us
    assert at_once > 0.6 * RESTART_US > later > 0
    for _ in range(30):
        memory.note_completed(WORKER, 8.0)
    assert memory.get_figures(WORKER, 8.0).wait_us < 0.25 * RESTART_US
    assert memory.get_figures(OTHER, 8.0).wait_us == 0


def test_a_probe_outweighs_the_time_of_acceptance_and_ends_silence() -> None:
    memory = WorkerMemory()
    memory.note_reached(WORKER, 0.5, 0.0)
    memory.note_silent(WORKER, 1.0)
    assert memory.is_avoided(WORKER, 800.0), "until it answers"
    memory.note_report(WORKER, make_report(WORKER, waiting_rows=50, prefill_us=200), 0.02, 801.0)
    assert not memory.is_avoided(WORKER, 801.0)
    figures = memory.get_figures(WORKER, 801.0)
    assert (figures.round_trip_us, figures.wait_us, figures.kv_free) == (20_000, 10_000, 10_000)
    later = memory.get_figures(WORKER, 801.0 + REPORT_AGE_S + 1)
    assert (later.wait_us, later.kv_free) == (0, 10_000), "what waited then does not wait now; there is room as before"
    assert memory.get_figures(WORKER, 801.0 + ROOM_AGE_S + 1).kv_free is None


def test_what_was_ordered_since_the_report_is_taken() -> None:
    memory = WorkerMemory()
    assert not memory.is_full(WORKER, 10**9, 0.0), "nothing is known of its room"
    memory.note_report(WORKER, make_report(WORKER), 0.02, 0.0)
    assert (memory.is_full(WORKER, 10_000, 0.0), memory.is_full(WORKER, 10_001, 0.0)) == (False, True)
    memory.note_ordered(WORKER, 4_000, 1.0)
    assert (memory.is_full(WORKER, 6_000, 1.0), memory.is_full(WORKER, 6_001, 1.0)) == (False, True)
    memory.note_ordered(WORKER, 10_000, 1.0)
    assert memory.get_figures(WORKER, 1.0).kv_free == 0
    memory.note_report(WORKER, make_report(WORKER), 0.02, 2.0)
    assert not memory.is_full(WORKER, 10_000, 2.0), "the next report tells"


def test_a_probe_does_not_forgive_a_failed_request() -> None:
    memory = WorkerMemory()
    memory.note_failed(WORKER, 0.0)
    memory.note_report(WORKER, make_report(WORKER), 0.02, 1.0)
    assert memory.is_avoided(WORKER, 1.0)


def test_one_that_leaves_is_left_out_until_it_says_otherwise() -> None:
    memory = WorkerMemory()
    memory.note_report(WORKER, make_report(WORKER, is_leaving=True), 0.02, 1.0)
    assert memory.is_avoided(WORKER, 2.0)
    memory.note_report(WORKER, make_report(WORKER), 0.02, 3.0)
    assert not memory.is_avoided(WORKER, 3.0)


def test_another_address_forgives_what_failed_before_it() -> None:
    memory = WorkerMemory()
    assert not memory.has_moved(WORKER, 0.0)
    memory.note_failed(WORKER, 1.0)
    memory.note_silent(WORKER, 1.0)
    memory.note_moved(WORKER, 2.0)
    assert memory.has_moved(WORKER, 2.0)
    assert not memory.is_avoided(WORKER, 2.0)
    memory.note_failed(WORKER, 3.0)
    assert not memory.has_moved(WORKER, 3.0)
    assert find_wait(memory, 3.0) == 5


def test_what_was_measured_outweighs_what_was_reported_the_more_the_more_often() -> None:
    memory = WorkerMemory()
    memory.note_report(WORKER, make_report(WORKER, decode_us=100), 0.02, 0.0)
    believed = [memory.get_figures(WORKER, 0.0).decode_us or 0]
    for _ in range(20):
        memory.note_paces(WORKER, 0.0, 10_000, None)
        believed.append(memory.get_figures(WORKER, 0.0).decode_us or 0)
    assert believed[0] == 100
    assert believed == sorted(believed)
    assert believed[-1] > 9_000
    assert memory.get_figures(WORKER, 2 * HALF_LIFE_S).decode_us == pytest.approx(7_000, rel=0.1), "it may have changed"


def test_hops_are_kept_and_bounded() -> None:
    memory = WorkerMemory()
    for number in range(HOPS_MAX + 1):
        memory.note_hop(WORKER, number.to_bytes(32, "big"), 5_000)
    assert len(memory.get_hops()) == HOPS_MAX
    assert (WORKER, bytes(32)) not in memory.get_hops()
    assert memory.count_hop_samples(WORKER, (1).to_bytes(32, "big")) == 1
    assert memory.count_hop_samples(WORKER, bytes(32)) == 0


def test_it_is_bounded() -> None:
    memory = WorkerMemory()
    memory.note_failed(WORKER, 0.0)
    for number in range(WORKERS_MAX):
        memory.note_failed(number.to_bytes(32, "big"), 1.0)
    assert not memory.is_avoided(WORKER, 1.0), "the oldest made room"
    assert memory.is_avoided(bytes(32), 1.0)
