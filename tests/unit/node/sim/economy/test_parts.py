"""The simulated economy's own arithmetic: the ordered state, conducts, findings, supply, ticks and charts."""

from __future__ import annotations

import random
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consensus.runtime.inference.tally import is_fingerprint_match
from consensus.state.reader import DictState
from genesis.public import build_public_params
from node.cli import worker_defaults
from node.sim.economy import plan as plans
from node.sim.economy.committees import (
    DrawnWindow,
    FriendlyVerifier,
    LazyVerifier,
    SilentVerifier,
    VerifierPolicy,
    make_fingerprint,
)
from node.sim.economy.conduct import HONEST, CautiousWorker, Conduct, RateWorker
from node.sim.economy.ordered_state import OrderedState
from node.sim.economy.parties import Party, SimAccount
from node.sim.economy.plan import EconomyPlan, build_chain_params, build_params
from node.sim.economy.supply import project_supply
from node.sim.economy.svg import Bar, Line, draw_bars, draw_lines, list_ticks
from proto_specs.types.calls import Outcome
from proto_specs.types.common import NMYL_PER_MYL

KEYS = st.sampled_from(
    [place + bytes([a, b]) for place in (b"a.x:", b"a.xy:", b"b:") for a in range(3) for b in range(3)]
)
CHANGES = st.lists(st.dictionaries(KEYS, st.none() | st.binary(max_size=2)), max_size=8)


@given(CHANGES, KEYS, st.integers(0, 6))
def test_the_ordered_state_is_a_dict_with_an_order(blocks: list[dict[bytes, Any]], key: bytes, length: int) -> None:
    plain, ordered = DictState({b"a.x:\0\1": b"1"}), OrderedState({b"a.x:\0\1": b"1"})
    prefix = key[: max(key.index(b":") + 1, length)]
    for changes in blocks:
        listed = tuple(sorted(changes.items()))
        plain.apply(listed)
        ordered.apply(listed)
        assert list(ordered.iterate(prefix)) == list(plain.iterate(prefix))
        assert ordered.get(key) == plain.get(key)
        assert len(ordered) == len(plain.items)


def test_prices_and_bond_are_those_of_worker_run() -> None:
    assert plans.PREFILL_PRICE == worker_defaults.DEFAULT_PREFILL_PRICE
    assert plans.DECODE_PRICE == worker_defaults.DEFAULT_DECODE_PRICE
    assert plans.BOND_MYL == worker_defaults.DEFAULT_BOND_MYL


def test_only_periods_differ_from_the_chain_s_own_parameters() -> None:
    plan = EconomyPlan()
    ours, theirs = build_params(plan), build_chain_params(plan)
    assert theirs == build_public_params()
    changed = {
        name
        for name in type(ours.inference).__annotations__
        if getattr(ours.inference, name) != getattr(theirs.inference, name)
    }
    assert all(name.endswith("_blocks") for name in changed - {"audits_per_epoch"}), changed
    assert ours.system == theirs.system
    per_block = ours.staking.emission_per_epoch * theirs.staking.epoch_blocks
    assert per_block == theirs.staking.emission_per_epoch * ours.staking.epoch_blocks


def test_conducts_save_what_they_leave_out() -> None:
    assert HONEST.compute_cost(1_000) == 1_000
    assert Conduct(500, 600).compute_cost(1_000) == 700
    chosen = [RateWorker(Conduct(1_000), 250).choose(number) != HONEST for number in range(100)]
    assert sum(chosen) == 25
    can_afford = iter([True, False, True])
    cautious = CautiousWorker(Conduct(1_000), lambda: next(can_afford))
    assert [cautious.choose(number) != HONEST for number in range(3)] == [True, False, True]


def judge(policy: VerifierPolicy, **fields: Any) -> tuple[Outcome | None, int]:
    """What a verifier says, and what it spent."""
    party = Party("verifier", SimAccount(1, "verifier"))
    window = DrawnWindow(**({"worker": b"w", "is_bad": False, "is_seen": False, "opens": True, "cost": 7} | fields))
    finding = policy.judge(window, party)
    return (None if finding is None else finding.outcome), party.cost


def test_verifiers_say_what_they_are_made_to_say() -> None:
    bad: dict[str, Any] = {"is_bad": True, "is_seen": True}
    assert judge(VerifierPolicy()) == (Outcome.PASS, 7)
    assert judge(VerifierPolicy(), **bad) == (Outcome.FAIL, 7)
    assert judge(VerifierPolicy(), is_bad=True) == (Outcome.PASS, 7)
    assert judge(VerifierPolicy(), opens=False) == (Outcome.UNAVAILABLE, 0)
    assert judge(LazyVerifier("a"), **bad) == (Outcome.PASS, 0)
    assert judge(SilentVerifier(), **bad) == (None, 0)
    assert judge(FriendlyVerifier({b"w"}), **bad) == (Outcome.PASS, 0)
    assert judge(FriendlyVerifier({b"x"}), **bad) == (Outcome.FAIL, 7)


def test_fingerprints_agree_by_author_alone() -> None:
    one, other = make_fingerprint(b"c", b"b", "computed"), make_fingerprint(b"c", b"b", "lazy")
    assert is_fingerprint_match(one, make_fingerprint(b"c", b"b", "computed"))
    assert not is_fingerprint_match(one, other)
    assert not is_fingerprint_match(one, make_fingerprint(b"c", b"later", "computed"))


def test_the_supply_follows_the_schedule_to_its_end() -> None:
    staking = build_public_params().staking
    whole = 100_000_000 * NMYL_PER_MYL
    points = project_supply(staking, whole, 0, 12)
    first = 4 * 365 * 24 * staking.emission_per_epoch
    assert [points[year].minted for year in (4, 8, 12)] == [first, first + first // 2, first + first // 2 + first // 4]
    burning = project_supply(staking, whole, NMYL_PER_MYL // 10, 4)
    assert burning[4].issuance == points[4].issuance - burning[4].burned
    assert burning[4].burned == 4 * 365 * 24 * 3_600 * NMYL_PER_MYL // 10


@given(st.integers(-(10**6), 10**6).map(float), st.integers(0, 10**6).map(lambda one: one / 100))
def test_ticks_enclose_what_is_shown(low: float, span: float) -> None:
    ticks = list_ticks(low, low + span)
    assert ticks == sorted(set(ticks))
    assert 2 <= len(ticks) <= 12
    slack = 1e-6 * (span or abs(low) or 1.0)
    assert ticks[0] <= low + slack
    assert ticks[-1] >= low + span - slack


@pytest.mark.parametrize("seed", range(3))
def test_charts_are_xml_whatever_their_names(seed: int) -> None:
    rng = random.Random(seed)
    points = tuple((float(x), rng.uniform(-5, 5)) for x in range(4))
    charts = [draw_lines("a < b", "x & y", "y", [Line("one > two", points)])]
    charts.append(draw_bars("bars", "note", [Bar("<name>", rng.uniform(-9, 200), "&") for _ in range(3)]))
    for chart in charts:
        assert ElementTree.fromstring(chart).tag.endswith("svg")
