"""What would be otherwise: one more machine of a kind, other ends, and each assumption of a plan changed in turn."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from inference.planning.cost import CostTable, make_cost_table
from inference.planning.fleet import Fleet, FleetLink, MachineKind
from inference.planning.plan import FleetPlan, make_plan
from inference.planning.predict import PathPrediction
from inference.planning.search import search
from inference.planning.shape import ModelShape
from inference.planning.solve import FleetTooSmall, Placement, compute_value, is_small, solve
from inference.planning.workload import Objective, PlanWorkload, WorkloadError

WORK_MAX = 200_000_000
"""Additions of an exact search among several: half a second."""
KINDS_MAX = 32
"""A fleet of more kinds has no answers here: there would be a search for each."""
_CUTS = 300


@dataclass(frozen=True)
class ChangedPlan:
    """What a changed plan does; no prediction and no stages where nothing fits."""

    assumption: str
    change: str
    prediction: PathPrediction | None
    stages: int


@dataclass(frozen=True)
class EndOption:
    """A kind of machine at an end of the path: seconds that the best such plan's objective takes more."""

    kind: str
    worse_s: float


def list_gains(plan: FleetPlan) -> list[ChangedPlan]:
    """The plan with one more machine of each kind of its fleet. Nothing is ever worse: it can be left idle."""
    if len(plan.fleet.kinds) > KINDS_MAX:
        return []
    gains = []
    for kind in plan.fleet.kinds:
        fleet = plan.fleet.add_one(kind)
        more = make_plan(plan.shape, fleet, plan.workload, plan.objective, [plan.placement], WORK_MAX, _CUTS)
        gains.append(ChangedPlan("machines", f"one more {kind.name}", more.predict(), len(more.placement)))
    return gains


def list_ends(plan: FleetPlan) -> tuple[list[EndOption], list[EndOption]]:
    """(first, last): what it costs to have each kind of machine at that end, from the best. A kind that cannot be there
    is left out.
    """
    if len(plan.fleet.kinds) > KINDS_MAX:
        return [], []
    stages = len(plan.placement)
    table = make_cost_table(plan.shape, plan.fleet, plan.workload, plan.objective, stages)
    is_throughput = plan.objective is Objective.THROUGHPUT
    base = compute_value(table, plan.placement, is_throughput)
    found: tuple[list[EndOption], list[EndOption]] = ([], [])
    for side, options in enumerate(found):
        for place, kind in enumerate(plan.fleet.kinds):
            is_other = np.arange(len(plan.fleet.kinds)) != place
            stage = table.stage.copy()
            if side == 0:
                stage[is_other, 0, :] = np.inf
            else:
                stage[is_other, :, -1] = np.inf
            is_there = plan.placement[-side].kind == place
            best = _find(dataclasses.replace(table, stage=stage), is_throughput, [plan.placement] if is_there else [])
            if best is not None:
                options.append(EndOption(kind.name, compute_value(table, best, is_throughput) - base))
        options.sort(key=lambda one: (one.worse_s, one.kind))
    return found


def _find(table: CostTable, is_throughput: bool, known: list[Placement]) -> Placement | None:
    try:
        if is_small(table, is_throughput, WORK_MAX):
            return solve(table, is_throughput)
        return search(table, is_throughput, known, _CUTS)
    except FleetTooSmall:
        return None


def list_sensitivity(
    plan: FleetPlan, precisions: Mapping[str, Callable[[], ModelShape]] | None = None
) -> Iterator[ChangedPlan]:
    """The plan first, then planned again with each assumption changed, one at a time.

    `precisions` make the model's shape in other precisions, by name.
    """
    yield ChangedPlan("as planned", "", plan.predict(), len(plan.placement))
    for assumption, change, fleet, workload in _list_changes(plan.fleet, plan.workload):
        yield _plan_again(assumption, change, plan, plan.shape, fleet, workload)
    for name, make_shape in (precisions or {}).items():
        yield _plan_again("weights", name, plan, make_shape(), plan.fleet, plan.workload)


def _plan_again(
    assumption: str, change: str, plan: FleetPlan, shape: ModelShape, fleet: Fleet, workload: PlanWorkload
) -> ChangedPlan:
    try:
        again = make_plan(shape, fleet, workload, plan.objective, work_max=WORK_MAX)
    except (FleetTooSmall, WorkloadError):  # more memory, or more context, than there is
        return ChangedPlan(assumption, change, None, 0)
    return ChangedPlan(assumption, change, again.predict(), len(again.placement))


def _list_changes(fleet: Fleet, workload: PlanWorkload) -> Iterator[tuple[str, str, Fleet, PlanWorkload]]:
    scales: dict[str, Callable[[float], Fleet]] = {
        "delay of links": lambda factor: _scale_links(fleet, factor, 1.0),
        "rate of links": lambda factor: _scale_links(fleet, 1.0, factor),
        "memory bandwidth": lambda factor: _scale_machines(
            fleet, bytes_per_s=factor, decode_layer_s=1 / factor, head_s=1 / factor
        ),
        "arithmetic": lambda factor: _scale_machines(
            fleet, flops=factor, prefill_layer_s=1 / factor, call_layer_s=1 / factor
        ),
        "layer overhead": lambda factor: _scale_machines(fleet, layer_s=factor),
        "message overhead": lambda factor: dataclasses.replace(
            fleet, hop_s=fleet.hop_s * factor, stage_s=fleet.stage_s * factor, open_s=fleet.open_s * factor
        ),
        "memory of machines": lambda factor: _scale_machines(fleet, memory_bytes=factor),
    }
    for name, scale in scales.items():
        for factor in (0.75, 1.5) if name == "memory of machines" else (0.5, 2.0):
            yield name, f"x {factor:g}", scale(factor), workload
    for room in (0.0, 0.2):
        yield "head-room", f"{room:.0%}", dataclasses.replace(fleet, head_room=room), workload
    for prompt in (workload.prompt_tokens // 4 or 1, workload.prompt_tokens * 4):
        yield "prompt", f"{prompt} tokens", fleet, dataclasses.replace(workload, prompt_tokens=prompt)
    for sessions in (4, 16):
        more = dataclasses.replace(workload, sessions=workload.sessions * sessions)
        yield "sessions", str(more.sessions), fleet, more
    for acceptance in (0.3, 0.8):
        yield "acceptance of drafts", f"{acceptance:g}", fleet, dataclasses.replace(workload, acceptance=acceptance)


def _scale_links(fleet: Fleet, delay: float, rate: float) -> Fleet:
    def scale(kind: MachineKind) -> MachineKind:
        return dataclasses.replace(
            kind,
            latency_s=kind.latency_s * delay,
            up_bytes_per_s=kind.up_bytes_per_s * rate,
            down_bytes_per_s=kind.down_bytes_per_s * rate,
        )

    links = {pair: FleetLink(one.delay_s * delay, one.bytes_per_s * rate) for pair, one in fleet.links.items()}
    kinds = tuple(map(scale, fleet.kinds))
    return dataclasses.replace(fleet, kinds=kinds, client=scale(fleet.client), links=links)


def _scale_machines(fleet: Fleet, **factors: float) -> Fleet:
    kinds = tuple(
        dataclasses.replace(one, **{name: getattr(one, name) * factor for name, factor in factors.items()})
        for one in fleet.kinds
    )
    return dataclasses.replace(fleet, kinds=kinds)
