"""Both sides take turns on the same prompts; figures are medians, and their spread is told."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.inference.rounds import SESSIONS, Item, Series, make_items, measure

TEXT = list(range(100))


class FakeSide:
    """Answers in so many seconds a run, its warming run first, and notes its calls in a list shared by both."""

    def __init__(self, name: str, log: list[tuple[str, str, dict[str, Any]]], seconds: list[float]) -> None:
        self.name = name
        self.log = log
        self.seconds = iter(seconds)
        self.wrong_from = 10**6

    def call(self, name: str, **given: Any) -> Any:
        self.log.append((self.name, name, given))
        tokens = [one if one < self.wrong_from else -one for one in range(given.get("tokens", 1))]
        answer: list[Any] = [tokens for _ in given["prompts"]] if name == "parallel" else tokens
        return {"seconds": next(self.seconds), "tokens": answer}


def measure_one(item: Item, ours: list[float], peer: list[float] | None, wrong_from: int = 10**6) -> tuple[Series, Any]:
    log: list[tuple[str, str, dict[str, Any]]] = []
    other = None if peer is None else FakeSide("peer", log, peer)
    if other is not None:
        other.wrong_from = wrong_from
    (series,) = measure([item], FakeSide("ours", log, ours), other, TEXT, len(ours) - 1, lambda _text: None)
    return series, log


def test_sides_take_turns_on_the_same_prompt() -> None:
    _, log = measure_one(Item("decode_8", 8, 10), [9, 1, 1], [9, 1, 1])
    assert [side for side, _, _ in log] == ["ours", "peer"] * 3
    assert [given["tokens"] for _, _, given in log] == [4, 4, 10, 10, 10, 10]
    assert all(given["prompt"] == TEXT[:8] for _, _, given in log)


def test_figures_are_medians_of_the_runs_without_the_warming_one() -> None:
    series, _ = measure_one(Item("decode_8", 8, 10), [9, 1, 2, 5], [9, 4, 2, 5])
    found = series.to_json()
    assert found["ours"] == {"median": 5.0, "min": 2.0, "max": 10.0, "runs": [10.0, 5.0, 2.0]}
    assert found["peer"]["median"] == 2.5
    assert found["ratio"] == {"of_medians": 2.0, "min": 1.0, "max": 4.0}
    assert found["same_tokens"] == {"leading": 10, "of": 10}


def test_without_a_peer_there_is_no_ratio() -> None:
    series, _ = measure_one(Item("prefill_32", 32, 0), [9, 2], None)
    found = series.to_json()
    assert found["ours"]["median"] == 16.0
    assert found["peer"] is None
    assert found["ratio"] is None


def test_tokens_after_the_first_that_differs_are_not_the_same() -> None:
    series, _ = measure_one(Item("parallel_3", 8, 10, 3), [9, 1], [9, 1], wrong_from=4)
    assert series.to_json()["same_tokens"] == {"leading": 3 * 4, "of": 3 * 10}
    assert series.our_median == 30.0


def test_sessions_have_prompts_of_their_own_that_go_on_where_the_text_ends() -> None:
    _, log = measure_one(Item("parallel_2", 150, 10, 2), [9, 1], None)
    first, second = log[-1][2]["prompts"]
    assert first == [*TEXT, *TEXT[:50]]
    assert second == [*TEXT[1:], *TEXT[:51]]


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        (("decode",), ["decode_64", "decode_512"]),
        (("prefill", "memory"), ["prefill_256"]),
        (("parallel",), ["decode_64", f"parallel_{SESSIONS}"]),
        (("memory",), []),
    ],
)
def test_groups_name_their_items(groups: tuple[str, ...], names: list[str]) -> None:
    assert [one.name for one in make_items(groups, 8)] == names
