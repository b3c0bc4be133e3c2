"""Statistics of a load."""

from __future__ import annotations

import pytest

from node.localnet.latency import Finality, LatencyTally, pick_percentile
from node.localnet.load_target import SendSchedule
from node.localnet.payers import Rota, make_payers


@pytest.mark.parametrize(
    ("count", "percent", "expected"), [(1, 50, 1), (2, 50, 1), (100, 50, 50), (100, 99, 99), (101, 99, 100), (5, 99, 5)]
)
def test_nearest_rank(count: int, percent: int, expected: int) -> None:
    assert pick_percentile(range(1, count + 1), percent) == expected


def test_nothing_has_no_percentile() -> None:
    assert pick_percentile([], 99) is None
    report = LatencyTally().report()
    assert (report.p50_ms, report.p99_ms, report.max_ms, report.tps) == (None, None, None, 0.0)


def test_latency_begins_when_a_transfer_was_due_and_the_rate_ends_with_the_last_final_one() -> None:
    tally = LatencyTally(started_s=100.0, offered=5, submitted=4, accepted=3)
    for number, (due_s, now_s) in enumerate([(100.0, 101.0), (101.0, 101.5), (102.0, 104.0)]):
        tally.finalize(f"0x{number}", Finality(7 + number, None), due_s, now_s)
    tally.fail("x")
    tally.fail("x")
    assert tally.report().to_json() == {
        "offered": 5,
        "submitted": 4,
        "accepted": 3,
        "finalized": 3,
        "tps": 0.8,
        "p50_ms": 1_000,
        "p99_ms": 2_000,
        "max_ms": 2_000,
        "failures": {"x": 2},
    }
    assert [(name, one.height) for name, one in tally.finalized.items()] == [("0x0", 7), ("0x1", 8), ("0x2", 9)]


def test_a_schedule_ends() -> None:
    schedule = SendSchedule(10.0, 0.5, 11.0)
    assert [schedule.get_due_s(number) for number in range(3)] == [10.0, 10.5, None]


def test_payers_take_turns_and_those_who_are_lost_are_left_out() -> None:
    payers = make_payers(3)
    rota = Rota(payers)
    assert rota.pick() is None
    payers[0].nonce, payers[2].nonce = 0, 5
    assert [rota.pick() for _ in range(3)] == [payers[0], payers[2], payers[0]]
    first, second = payers[0].sign_next(bytes(32)), payers[0].sign_next(bytes(32))
    assert first != second
    assert payers[0].nonce == 2
