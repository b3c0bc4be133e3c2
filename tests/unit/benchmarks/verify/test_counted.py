"""What is counted of measured windows is what they hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.verify.corpus import KINDS
from benchmarks.verify.counted import count_cheats, count_honest, measure_separation
from benchmarks.verify.honest import NAMES, cut_windows
from inference.calibration.tallies import Boundary, DistanceTally
from inference.calibration.thresholds import Chosen

CHOSEN = [Chosen(end, 1_000 * end, 1, 0, 0, 0, 0, "", ()) for end in (1, 2)]


def test_windows_of_a_text_share_no_position_and_cover_it() -> None:
    for number in range(3 * len(KINDS)):
        windows = cut_windows(number, 128)
        assert [one for first, length in windows for one in range(first, first + length)] == list(range(128))
        assert windows[0] != (0, 1)
    assert cut_windows(1, 128) == cut_windows(1, 128)


def test_a_window_is_accused_beyond_the_threshold_of_its_end() -> None:
    generator = np.random.default_rng(1)
    texts = []
    for _ in range(4):
        count = 700
        ends, machines = generator.integers(1, 3, count), generator.integers(0, len(NAMES), count)
        distances = generator.exponential(50, count).astype(np.int64)
        texts.append(np.stack([ends * 0, ends, machines, ends * 0 + 40, ends * 0 + 1, distances], axis=1))
    found = count_honest(texts, CHOSEN)
    assert (found["windows"], found["accused"]) == (2_800, 0)
    assert sum(one["windows"] for one in found["machines"].values()) == 2_800
    assert found["tail"]["beyond_threshold_per_window"] < 1e-4
    texts[2][5, 1], texts[2][5, 5] = 2, 2_001
    assert count_honest(texts, CHOSEN)["accused"] == 1


def test_a_cheat_that_passes_too_often_is_named() -> None:
    near, far = DistanceTally(), DistanceTally()
    near.add(np.array([500] + [9_000] * 99))
    far.add(np.array([9_000] * 100))
    found = count_cheats([Boundary(0, 1, cheats={"near": {1: near}, "far": {1: far, 32: far}})], CHOSEN)
    assert found["inseparable"] == ["near"]
    assert found["cheats"]["near"]["missed_per_window"] == 0.01
    assert found["cheats"]["far"]["windows"] == 200
    assert found["cheats"]["far"]["least_of_its_threshold"] == 9.0


def test_separation_is_of_the_same_shard_and_length() -> None:
    def make(worst: int, least: int) -> Boundary:
        cheat = DistanceTally(3, least, [least])
        return Boundary(0, 1, {"single rows": {1: DistanceTally(3, worst, [])}}, {"fp16 weights": {1: cheat}})

    one, other = make(10, 2_000), replace(make(100, 1_000), start=1, end=2)
    found = measure_separation([one, other], [0, 1, 2])
    assert found["shards"] == {"0-1": {"1": 200.0}, "1-2": {"1": 10.0}}
    assert found["all"]["1"]["least_of_shard"] == (1, 2)
    assert found["all"]["1"]["share_of_shards_at_goal"] == 0.5
