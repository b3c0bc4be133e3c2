"""The planner's benchmark: own times from what was measured, the fleet they make, and what is foretold from it."""

from __future__ import annotations

import pytest

from benchmarks.network.client import Answered
from benchmarks.network.planner import (
    CASES,
    OWN_ROWS,
    OwnTimes,
    PathCase,
    Spoken,
    compare,
    compute_own_times,
    foretell,
    read_answer,
    take_middle,
    write_fleet,
)
from inference.planning.fleet_text import parse_fleet
from tests.unit.inference.planning.drawn import make_layer, make_model

OWN = OwnTimes(500, 60, 900, 4000, 300, 50, 7000)
SHAPE = make_model([make_layer()] * 30)
FEW, MANY = OWN_ROWS


def test_own_times_are_those_that_make_what_was_measured() -> None:
    layer, row, call, head, stage, hop, opened = (
        one * 1e-6 for one in (500.0, 60.0, 900.0, 4000.0, 300.0, 50.0, 7000.0)
    )
    found = compute_own_times(
        decode_s=(14 * layer, 16 * layer + head),
        layers=(14, 16),
        chunks_s=(14 * (call + FEW * row), 14 * (call + MANY * row)),
        one=Spoken(1 / stage, opened + 4 * hop + stage),
        many=Spoken(1 / (3 * (stage + hop)), 1.0),
    )
    assert list(vars(found).values()) == pytest.approx(list(vars(OWN).values()))


def test_noise_makes_a_fleet_too() -> None:
    found = compute_own_times((0.02, 0.01), (15, 15), (0.2, 0.1), Spoken(100, 0.001), Spoken(1000, 0.001))
    assert (found.head_us, found.hop_us, found.open_us) == (0, 0, 0)
    parse_fleet(write_fleet(found, CASES[1]).encode())


@pytest.mark.parametrize("case", CASES, ids=lambda one: one.name)
def test_every_case_is_a_fleet_and_a_path(case: PathCase) -> None:
    fleet = parse_fleet(write_fleet(OWN, case).encode())
    (worker,) = fleet.kinds
    assert worker.count == len(case.cuts) - 1
    assert (worker.call_layer_s, worker.head_s) == (pytest.approx(900e-6), pytest.approx(4e-3))
    for source, target in ((fleet.client, worker), (worker, fleet.client), (worker, worker)):
        link = fleet.get_link(source, target)
        assert link.delay_s == pytest.approx(case.delay_ms / 1e3 + 50e-6)
        assert link.bytes_per_s == pytest.approx((case.rate_mbit or 1e4) * 1e6 / 8)
    assert case.cut(30) == list(case.cuts)
    assert foretell(SHAPE, OWN, case).tokens_per_s > 0


def test_the_cases_are_ten_and_differ() -> None:
    assert len(set(CASES)) == 10
    assert {one.delay_ms for one in CASES} == {0, 5, 50, 100}
    assert {len(one.cuts) for one in CASES} == {2, 3, 4}


def test_a_delay_is_in_every_hop_and_in_each_message_before_the_first_token() -> None:
    near, far = (foretell(SHAPE, OWN, PathCase((0, 16, 24, 30), delay, None, 40)) for delay in (50, 100))
    assert 1 / far.tokens_per_s - 1 / near.tokens_per_s == pytest.approx(3 * 0.05)
    # The order, the answer to it, the prompt, two hops and the token.
    assert far.first_token_s - near.first_token_s == pytest.approx(6 * 0.05)


def test_an_answer_is_read_from_when_its_tokens_came() -> None:
    assert read_answer(Answered([1, 2, 3], [2.0, 2.0, 2.5], 1.5)) == Spoken(4.0, 0.5)


def test_what_was_foretold_is_a_share_of_what_was_measured() -> None:
    assert take_middle([Spoken(1, 9), Spoken(3, 8), Spoken(2, 1)]) == Spoken(2, 8)
    told = compare(Spoken(11, 2), Spoken(10, 1))
    assert told["ratio"] == {"tokens_per_s": 1.1, "first_token_s": 2.0}
    assert told["within"] == {"tokens_per_s": True, "first_token_s": False}
