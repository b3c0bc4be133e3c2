"""What requests show of a path finds out who is slower than it says, whatever it says."""

from __future__ import annotations

import random

import pytest

from inference.routing import PathLoad
from node.client.offers import make_offers
from node.client.path_sight import PathSight, TimePart, attribute
from node.client.worker_memory import WorkerMemory
from proto_specs.limits import WINDOW_POSITIONS
from tests.unit.node.client.listings import make_entry, make_report

ENTRIES = {name: make_entry(name, start, end) for name, start, end in (("a", 0, 3), ("b", 3, 6), ("c", 3, 6))}


def test_a_delay_goes_to_those_of_whom_least_is_known_and_who_hold_most() -> None:
    known, unknown = TimePart(10, 5, 20), TimePart(1, 5, 0)
    first, second = attribute([known, unknown], 61)
    assert first + second == pytest.approx(61)
    assert second > 40
    wide, narrow = attribute([TimePart(1, 9, 0), TimePart(1, 1, 0)], 100)
    assert wide > 8 * narrow
    assert attribute([TimePart(10, 5, 0), TimePart(30, 5, 0)], 20) == [5, 15]
    assert attribute([TimePart(0, 0, 0)], 5) == [0]


def run_request(
    memory: WorkerMemory, names: str, takes_us: dict[str, float], now_s: float, tokens: int = 40, prompt: int = 100
) -> float:
    """A request over a path, whose stages take so long for a step and a tenth of it for a row."""
    entries = [ENTRIES[one] for one in names]
    load = PathLoad(prompt, tokens, memory.get_hops())
    sight = PathSight(memory, make_offers(entries, memory, 0, now_s), load, now_s)
    sight.note_accepted(now_s)
    step_s = sum(takes_us[one] for one in names) / 1e6
    now_s += prompt * step_s / 10
    for _ in range(tokens):
        sight.note_token(now_s)
        now_s += step_s
    sight.note_completed(now_s)
    return now_s


def test_a_liar_about_speed_is_found_out() -> None:
    memory, now_s = WorkerMemory(), 0.0
    takes_us = {"a": 10_000.0, "b": 60_000.0, "c": 20_000.0}
    claims_us = {"a": 10_000, "b": 500, "c": 20_000}
    for _ in range(12):
        for name, entry in ENTRIES.items():
            memory.note_report(
                entry.worker, make_report(entry.worker, decode_us=claims_us[name], prefill_us=claims_us[name] // 10),
                0.0001, now_s,
            )  # fmt: skip
        now_s = run_request(memory, "ac", takes_us, now_s)
        now_s = run_request(memory, "ab", takes_us, now_s)
    found = {name: memory.get_figures(one.worker, now_s) for name, one in ENTRIES.items()}
    honest, liar = found["c"], found["b"]
    assert liar.decode_us is not None
    assert liar.prefill_us is not None
    assert honest.decode_us is not None
    assert honest.prefill_us is not None
    assert liar.decode_us > 1.5 * honest.decode_us
    assert liar.prefill_us > 1.5 * honest.prefill_us


def test_noise_and_a_single_path_still_sum_up_to_what_is_seen() -> None:
    memory, now_s, rng = WorkerMemory(), 0.0, random.Random(3)
    for _ in range(60):
        noisy = {"a": 10_000 * rng.uniform(0.8, 1.2), "b": 30_000 * rng.uniform(0.8, 1.2)}
        now_s = run_request(memory, "ab", noisy, now_s)
    path = make_offers([ENTRIES["a"], ENTRIES["b"]], memory, 0, now_s)
    load = PathLoad(100, 100, memory.get_hops())
    predicted_us = sum(one.decode_us for one in path) + sum(load.list_hops_us(path))
    assert predicted_us == pytest.approx(40_000, rel=0.15)


def test_a_short_answer_or_prompt_teaches_nothing_but_that_it_was_answered() -> None:
    memory = WorkerMemory()
    now_s = run_request(memory, "ab", {"a": 1_000, "b": 1_000}, 0.0, tokens=5, prompt=4)
    figures = memory.get_figures(ENTRIES["a"].worker, now_s)
    assert (figures.decode_us, figures.prefill_us, figures.wait_us) == (None, None, 0)
    memory.note_failed(ENTRIES["a"].worker, now_s)
    fresh = WorkerMemory()
    fresh.note_failed(ENTRIES["a"].worker, now_s)
    waits = [one.get_figures(ENTRIES["a"].worker, now_s).wait_us for one in (memory, fresh)]
    assert waits[0] < waits[1], "a failure after an answer weighs less"


def test_an_answer_that_breaks_off_has_taught_by_windows() -> None:
    memory = WorkerMemory()
    path = make_offers([ENTRIES["a"], ENTRIES["b"]], memory, 0, 0.0)
    sight = PathSight(memory, path, PathLoad(100, 500), 0.0)
    for at in range(2 * WINDOW_POSITIONS + 5):
        sight.note_token(1.0 + 0.05 * at)
    assert memory.get_samples(ENTRIES["a"].worker, 2.0)[0] > 1.9
