"""A worker that computes nothing and opens nothing, or so now and then: what it earns beside one that works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.runtime.arithmetic import PPM
from consensus.runtime.inference import conduct, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.committee_state import CLEAN
from consensus.runtime.inference.events import ChallengeDrawn, WorkerJailed
from genesis.dev import build_dev_params
from proto_specs.codec import encode
from proto_specs.types.calls import Outcome
from tests.unit.consensus.runtime.inference.inference_world import BOND, GROSS, NET, World, pick

REQUESTS = 48
COMPUTING = NET * 3 // 4
"""What computing a stage costs its worker: it keeps a quarter of what it is paid."""
DRAWN_PPM = 250_000
PARAMS = {
    "base_challenge_ppm": DRAWN_PPM,
    "probation_value": 10 * GROSS,
    "unavailable_min": 0,
    "unavailable_max": 3,
    "worker_jail_blocks": 10,
    "verification_deposit": 0,
}

Withholds = Callable[[int], bool]


def make_world(**params: int) -> World:
    """Three workers that have served long enough to be drawn by `DRAWN_PPM` alone."""
    world = World(requests_max=1_000, **{**PARAMS, **params})
    for one in world.workers:
        key = one.worker_key.public_key
        worker = queries.read_worker(world.chain.state, key)
        assert worker is not None
        world.chain.state.items[inference.workers.key(key)] = encode(replace(worker, proven=100 * GROSS))
    return world


def get_wealth(world: World) -> int:
    """What the first worker's operator has, its bond included."""
    worker = queries.read_worker(world.chain.state, world.workers[0].worker_key.public_key)
    assert worker is not None
    return world.chain.free(world.workers[0]) + worker.bond


def serve(world: World, sequence: int, *, opens: bool, tokens: int = 60) -> None:
    """A request, settled by another stage; of what is drawn, the first stage is opened or not."""
    world.chain.expect_ok(world.workers[1], world.settle(sequence, tokens))
    for one in pick(world.chain.skip(2), ChallengeDrawn):
        outcome = Outcome.UNAVAILABLE if one.stage == 0 and not opens else Outcome.PASS
        world.judge(one.challenge, world.verifiers[0], outcome)


def earn(world: World, withholds: Withholds, *, cheap: bool = False) -> tuple[int, int]:
    """(what the first worker earned, its cost of computing subtracted, and what it would have by work alone)."""
    before, computed = get_wealth(world), 0
    for number in range(REQUESTS):
        withheld = withholds(number)
        computed += not withheld
        serve(world, 2 * number, opens=not withheld)
        if cheap:
            serve(world, 2 * number + 1, opens=True, tokens=0)
    return get_wealth(world) - before - computed * COMPUTING, REQUESTS * (NET - COMPUTING)


def always(_number: int) -> bool:
    return True


def every_fourth(number: int) -> bool:
    return number % 4 == 0


def undefend(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: no charge, a jail by verdicts in a row that any pass clears, no way back to probation."""
    monkeypatch.setattr(conduct, "compute_charge", lambda *_: 0)
    monkeypatch.setattr(conduct, "compute_cleared", lambda *_: CLEAN)
    monkeypatch.setattr(conduct, "note_fault", lambda worker: worker)


@pytest.mark.parametrize(("withholds", "cheap"), [(always, True), (every_fourth, False)])
def test_without_a_charge_it_paid(monkeypatch: pytest.MonkeyPatch, withholds: Withholds, cheap: bool) -> None:
    undefend(monkeypatch)
    earned, honest = earn(make_world(), withholds, cheap=cheap)
    assert earned > honest


@pytest.mark.parametrize(("withholds", "cheap"), [(always, False), (always, True), (every_fourth, False)])
def test_it_loses_money_now(withholds: Withholds, cheap: bool) -> None:
    """It does worse than an honest worker by the shares of its gross that are burned and pay for verification."""
    world = make_world()
    assert earn(world, lambda _: False)[0] == REQUESTS * (NET - COMPUTING)
    earned, honest = earn(make_world(), withholds, cheap=cheap)
    withheld = sum(map(withholds, range(REQUESTS)))
    assert earned < honest - withheld * (GROSS - NET)


def test_the_figures_of_the_review(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn with 4.2 %, it kept 95.8 % of an honest income with its bond intact. Now it owes more than it gets."""
    params, ppm = build_dev_params().inference, 42_000
    kept = Fraction(PPM - ppm, PPM)
    assert kept == Fraction(958, 1_000)
    lost = Fraction(ppm, PPM) * conduct.compute_charge(replace(params, unavailable_min=0), GROSS, ppm, BOND)
    assert kept * NET - lost < 0
    assert lost >= GROSS


@given(
    ppm=st.integers(1, PPM),
    gross=st.integers(1, 10**12),
    share=st.fractions(0, 1),
    fees=st.integers(0, 900),
    margin=st.fractions(0, 1),
)
def test_no_share_of_withheld_work_pays(ppm: int, gross: int, share: Fraction, fees: int, margin: Fraction) -> None:
    """In expectation, whatever the odds, the price and the share, for every worker that earns by working at all."""
    net = Fraction(gross * (1_000 - fees), 1_000)
    computing = net * (1 - margin)
    params = replace(build_dev_params().inference, unavailable_min=0)
    odds = Fraction(ppm, PPM)
    honest = net - computing
    withheld = net * (1 - odds) - odds * conduct.compute_charge(params, gross, ppm, 10**30)
    mixed = (1 - share) * honest + share * withheld
    assert honest - mixed >= share * (gross - net + net * odds)


def test_the_bond_covers_all_that_exposure_allows() -> None:
    """A third of the bond at most stands for what is unresolved: no charge is cut short for the first that fall due."""
    world = make_world()
    params = world.chain.spec.params.inference
    for sequence in range(4):
        world.chain.expect_ok(world.workers[1], world.settle(sequence))
    request = queries.read_request(world.chain.state, queries.list_requests(world.chain.state, world.session)[-1][1])
    worker = queries.read_worker(world.chain.state, world.workers[0].worker_key.public_key)
    assert request is not None
    assert worker is not None
    stands_for = conduct.compute_odds_value(worker.unresolved, request.stages[0].challenge_ppm)
    assert params.exposure_factor * stands_for * 1_000 <= worker.bond * params.detection_permille


def test_probation_and_jail_end_by_value_alone() -> None:
    """Cheap requests to oneself cleared the count of what was withheld, and passes of them ended probation."""
    world = make_world(unavailable_max=1)
    key, operator = world.workers[0].worker_key.public_key, world.workers[0].account
    blocks, lasted = world.chain.spec.params.inference.worker_jail_blocks, []
    sequence = 0
    for term in range(4):
        while len(lasted) == term:
            for one in world.settle_and_draw(world.settle(sequence)):
                outcome = Outcome.PASS if one.stage else Outcome.UNAVAILABLE
                judged = world.judge(one.challenge, world.verifiers[0], outcome)
                lasted += [one.until - world.chain.height for one in pick(judged.events, WorkerJailed)]
            sequence += 1
        world.chain.skip(lasted[-1])
        for _ in range(3):
            serve(world, sequence, opens=True, tokens=0)
            sequence += 1
        worker = queries.read_worker(world.chain.state, key)
        assert worker is not None
        assert conduct.is_on_probation(world.chain.spec.params.inference, worker)
    assert lasted == [blocks, 2 * blocks, 4 * blocks, 8 * blocks]
    terms = queries.read_conduct(world.chain.state, operator).terms
    for _ in range(12):
        serve(world, sequence, opens=True)
        sequence += 1
    worker = queries.read_worker(world.chain.state, key)
    assert worker is not None
    assert not conduct.is_on_probation(world.chain.spec.params.inference, worker)
    assert queries.read_conduct(world.chain.state, operator).terms == terms - 1


def test_finding_nothing_opened_earns_less_than_judging() -> None:
    """Else a committee would rather not look."""
    world = make_world()
    for sequence in range(40):
        drawn = [one for one in world.settle_and_draw(world.settle(sequence)) if one.stage == 0]
        if drawn:
            break
    before = world.chain.free(world.verifiers[0])
    commit, reveal = world.verdict(drawn[0].challenge, world.verifiers[0], Outcome.UNAVAILABLE)
    fees = sum(world.chain.expect_ok(world.verifiers[0], one).fee for one in (commit, reveal))
    params = world.chain.spec.params.inference
    earned = world.chain.free(world.verifiers[0]) - before + fees
    assert 0 < earned <= GROSS * params.verification_permille // 1_000 * PPM // DRAWN_PPM
