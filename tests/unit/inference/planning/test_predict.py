"""One plan worked out by hand, and predictions from measured times."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from inference.planning.cost import make_cost_table
from inference.planning.fleet import CLIENT, Fleet, FleetLink, MachineKind
from inference.planning.plan import FleetPlan, make_plan
from inference.planning.predict import PathTimes, StageTimes, predict
from inference.planning.report import find_bottleneck, list_hops, list_stages, list_terms
from inference.planning.solve import FleetTooSmall, compute_value
from inference.planning.workload import Objective, PlanWorkload, WorkloadError, compute_accepted
from tests.unit.inference.planning.drawn import MIB, make_layer, make_model

WORKLOAD = PlanWorkload(prompt_tokens=256, answer_tokens=64, acceptance=0.5, drafts=1, chunk_rows=64)
LAYER_MIB, LAYERS = 100, 4
ROW = 1024 * 2
KV = 1024
CONTEXT = 256 + 32
ROWS = 256 / 5
"""Of a chunk: the prompt's first window is one, and 224 rows in chunks of up to 64 are four."""


def make_example() -> FleetPlan:
    """Two machines of 1 GiB/s with room for two of four layers of 100 MiB each; arithmetic costs nothing."""
    kinds = tuple(
        MachineKind(
            name=name,
            count=1,
            memory_bytes=300 * MIB,
            bytes_per_s=1024 * MIB,
            flops=1e30,
            layer_s=0.001,
            latency_s=latency,
            up_bytes_per_s=1e6,
            down_bytes_per_s=4e6,
        )
        for name, latency in (("near", 0.010), ("far", 0.030))
    )
    client = MachineKind(CLIENT, 1, 0.0, latency_s=0.005, up_bytes_per_s=1e6, down_bytes_per_s=1e6)
    shape = make_model([make_layer(LAYER_MIB)] * LAYERS)
    return make_plan(shape, Fleet(kinds, client, hop_s=0.002, head_room=0.1), WORKLOAD)


def test_a_worked_example() -> None:
    plan = make_example()
    assert plan.is_exact
    assert [(one.start, one.end) for one in plan.stages] == [(0, 2), (2, 4)]
    # Memory: two layers, KV of 320 positions in each, and the embedding (30 MiB) or the head (20 MiB).
    held = [one.held_bytes for one in plan.stages]
    assert held == [200 * MIB + 2 * 320 * KV + 30 * MIB, 200 * MIB + 2 * 320 * KV + 20 * MIB]
    # A token: each layer reads 100 MiB and the KV of 288 positions at 1 GiB/s, and takes 1 ms besides; so the head.
    layer = 100 / 1024 + CONTEXT * KV / (1024 * MIB) + 0.001
    head = 20 / 1024 + 0.001
    hop = 0.010 + 0.030 + 0.002
    token = 4 * layer + head + (hop + ROW / 1e6) + (hop + 4 / 1e6)
    found = plan.predict()
    assert found.token_s == pytest.approx(token, rel=1e-12)
    assert found.tokens_per_s == pytest.approx(1 / token)
    # With a draft: two rows over the hop, two tokens back, the same reads; 1 + 0.5 tokens a pass.
    assert found.drafts == 1
    assert found.speculative_tokens_per_s == pytest.approx(1.5 / (token + ROW / 1e6 + 4 / 1e6))
    # First token: the order to both and back; 5 chunks, for the first window is one; the second stage, which is the
    # slowest, has two calls for each; what the client sends and gets.
    call = 2 * (100 / 1024 + 128 * KV / (1024 * MIB) + 0.001)
    first, last = (next(kind for kind in plan.fleet.kinds if kind.name == one.name) for one in plan.stages)
    entry = 0.005 + first.latency_s + 0.002 + 256 * 4 / 1e6
    leave = 0.005 + last.latency_s + 0.002 + 4 / 1e6
    opening = 2 * (0.005 + 0.030 + 0.002)
    whole = opening + entry + 3 * call + hop + ROWS * ROW / 1e6 + 4 * 2 * call + head + leave
    assert found.first_token_s == pytest.approx(whole, rel=1e-12)
    assert found.slowest_s == pytest.approx(2 * layer + head)
    assert found.total_tokens_per_s == pytest.approx(1 / token)
    assert found.most_tokens_per_s == pytest.approx(1 / (2 * layer + head))


@pytest.mark.parametrize("objective", [Objective.DECODE, Objective.FIRST_TOKEN])
def test_the_terms_of_a_report_add_up_to_the_prediction(objective: Objective) -> None:
    plan = replace(make_example(), objective=objective)
    found = plan.predict()
    wanted = found.token_s if objective is Objective.DECODE else found.first_token_s
    terms = list_terms(plan, plan.compute_times())
    assert sum(one.seconds for one in terms) == pytest.approx(wanted, rel=1e-12)
    bottleneck = find_bottleneck(plan, plan.compute_times())
    assert bottleneck.what == ("memory bandwidth" if objective is Objective.DECODE else "slowest of the path")
    assert 0 < bottleneck.share < 1


def test_the_report_names_every_stage_and_hop() -> None:
    plan = make_example()
    times = plan.compute_times()
    names = [one.name for one in plan.stages]
    stages, hops = list_stages(plan, times), list_hops(plan)
    assert [one.machine for one in stages] == names
    assert [(one.source, one.target) for one in hops] == [(names[0], names[1]), (names[1], names[0])]
    assert [one.bytes_per_token for one in hops] == [ROW, 4]
    token = sum(one.token_s for one in stages) + sum(one.token_s for one in hops)
    assert token == pytest.approx(plan.predict().token_s)
    slowest = find_bottleneck(replace(plan, objective=Objective.THROUGHPUT), times)
    assert (slowest.what, slowest.where) == ("memory bandwidth", names[1])


def test_slow_links_are_named_as_the_bottleneck() -> None:
    plan = make_example()
    kinds = tuple(replace(one, latency_s=one.latency_s + 1) for one in plan.fleet.kinds)
    far = make_plan(plan.shape, replace(plan.fleet, kinds=kinds), WORKLOAD)
    assert find_bottleneck(far, far.compute_times()).what == "delay of links"
    kinds = tuple(replace(one, up_bytes_per_s=100) for one in plan.fleet.kinds)
    thin = make_plan(plan.shape, replace(plan.fleet, kinds=kinds), WORKLOAD)
    assert find_bottleneck(thin, thin.compute_times()).what == "rate of links"
    thin = replace(thin, objective=Objective.THROUGHPUT)
    assert find_bottleneck(thin, thin.compute_times()).what == "rate of links"


def test_a_measured_machine_takes_what_was_measured() -> None:
    plan = make_example()
    kinds = tuple(replace(one, decode_layer_s=0.004, prefill_layer_s=0.003, head_s=0.05) for one in plan.fleet.kinds)
    measured = make_plan(plan.shape, replace(plan.fleet, kinds=kinds), WORKLOAD).compute_times()
    kv = CONTEXT * KV / (100 * MIB) * 0.004
    assert measured.stages[0].pass_s[0] == pytest.approx(2 * (0.004 + kv), rel=1e-3)
    assert measured.stages[1].pass_s[0] - measured.stages[0].pass_s[0] == pytest.approx(0.05)
    assert measured.stages[1].head_s == pytest.approx(0.05)
    assert measured.stages[0].chunk_s == pytest.approx(2 * ROWS * 0.003, rel=1e-2)


def test_a_call_of_several_rows_takes_what_was_measured_of_it_and_its_rows() -> None:
    plan = make_example()
    times = {"decode_layer_s": 0.004, "prefill_layer_s": 0.003, "call_layer_s": 0.05}
    kinds = tuple(replace(one, **times) for one in plan.fleet.kinds)
    measured = make_plan(plan.shape, replace(plan.fleet, kinds=kinds), WORKLOAD)
    stage = measured.compute_times().stages[0]
    assert stage.chunk_s == pytest.approx(2 * (0.05 + ROWS * 0.003), rel=1e-2)
    assert measured.compute_times().stages[1].chunk_s == pytest.approx(2 * (2 * 0.05 + ROWS * 0.003), rel=1e-2)
    assert stage.pass_s[0] == pytest.approx(2 * 0.004, rel=1e-2)
    assert stage.pass_s[1] == pytest.approx(2 * (0.05 + 2 * 0.003), rel=1e-2)


def test_stages_and_orders_take_what_the_fleet_says() -> None:
    plan = make_example()
    dear = replace(plan, fleet=replace(plan.fleet, stage_s=0.01, open_s=0.5))
    before, after = plan.predict(), dear.predict()
    assert after.token_s - before.token_s == pytest.approx(2 * 0.01)
    # A call of the first stage, two of the second for each of five chunks.
    assert after.first_token_s - before.first_token_s == pytest.approx(0.5 + 11 * 0.01)
    for objective in Objective:
        again = make_plan(plan.shape, dear.fleet, WORKLOAD, objective)
        table = make_cost_table(plan.shape, dear.fleet, WORKLOAD, objective)
        value = compute_value(table, again.placement, objective is Objective.THROUGHPUT)
        found = again.predict()
        wanted = {
            Objective.DECODE: found.token_s,
            Objective.THROUGHPUT: found.slowest_s,
            Objective.FIRST_TOKEN: found.first_token_s,
        }
        assert value == pytest.approx(wanted[objective])
        if objective is not Objective.THROUGHPUT:
            assert sum(one.seconds for one in list_terms(again, again.compute_times())) == pytest.approx(value)


def test_a_prediction_takes_measured_times_of_stages_and_links() -> None:
    plan, link = make_example(), FleetLink(0.05, 12.5e6)
    stage = StageTimes(pass_s=(0.01, 0.012), chunk_s=0.2, head_s=0.001)
    times = PathTimes((stage, stage), (link,), link, link, link)
    found = plan.predict(times)
    assert found.token_s == pytest.approx(0.02 + 0.1 + (ROW + 4) / 12.5e6)
    assert found.first_token_s == pytest.approx(0.402 + 0.15 + (1024 + ROWS * ROW + 4) / 12.5e6 + 4 * 0.2)
    with pytest.raises(WorkloadError, match="2 stages, 1 were measured"):
        plan.predict(PathTimes((stage,), (), None, link, link))
    with pytest.raises(WorkloadError, match="give every stage's times"):
        PathTimes((stage, stage), (), link, link, link)
    with pytest.raises(WorkloadError, match="3 drafts are asked for"):
        predict(times, replace(WORKLOAD, drafts=3), ROW)


def test_drafts_that_do_not_help_are_not_made() -> None:
    stage, link = StageTimes((0.01, 0.03, 0.05), 0.2), FleetLink(0.0, math.inf)
    times = PathTimes((stage,), (), None, link, link)
    found = predict(times, replace(WORKLOAD, drafts=0), ROW)
    assert (found.drafts, found.accepted) == (0, 1)
    assert found.speculative_tokens_per_s == found.tokens_per_s
    helped = predict(
        replace(times, stages=(replace(stage, pass_s=(0.01, 0.011, 0.012)),)), replace(WORKLOAD, drafts=0), ROW
    )
    assert helped.drafts == 2
    assert helped.speculative_tokens_per_s == pytest.approx(1.75 / 0.012)


def test_accepted_tokens_are_those_of_the_geometric_sum() -> None:
    assert compute_accepted(0.0, 4) == 1
    assert compute_accepted(0.5, 2) == 1 + 0.5 + 0.25
    assert compute_accepted(0.9, 0) == pytest.approx(1)


def test_all_sessions_get_what_the_slowest_stage_gives() -> None:
    plan = make_example()
    one = plan.predict()
    few = replace(plan, workload=replace(WORKLOAD, sessions=2)).predict()
    many = replace(plan, workload=replace(WORKLOAD, sessions=100)).predict()
    assert few.total_tokens_per_s == pytest.approx(min(2 / one.token_s, one.most_tokens_per_s))
    assert many.total_tokens_per_s == one.most_tokens_per_s


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt_tokens": 0}, "prompt_tokens is 0"),
        ({"answer_tokens": 1 << 30}, "answer_tokens is"),
        ({"sessions": 0}, "sessions is 0"),
        ({"acceptance": 1.0}, "acceptance is 1.0"),
        ({"acceptance": float("nan")}, "acceptance is nan"),
        ({"drafts": -1}, "drafts is -1"),
    ],
)
def test_requests_that_cannot_be_are_refused(change: dict[str, float], said: str) -> None:
    with pytest.raises(WorkloadError, match=said):
        replace(WORKLOAD, **change)  # type: ignore[arg-type]


def test_what_does_not_fit_is_said_with_what_to_do() -> None:
    plan = make_example()
    with pytest.raises(FleetTooSmall, match="add machines, lower the precision"):
        make_plan(plan.shape, replace(plan.fleet, head_room=0.5), WORKLOAD)
    with pytest.raises(FleetTooSmall, match="no machine of the fleet holds layer 0"):
        make_plan(plan.shape, replace(plan.fleet, head_room=0.8), WORKLOAD)
    with pytest.raises(WorkloadError, match="plan for fewer tokens"):
        make_plan(replace(plan.shape, context_max=300), plan.fleet, WORKLOAD)
