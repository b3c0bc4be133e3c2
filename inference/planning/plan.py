"""Makes a plan: chooses the search that fits the fleet, names the machines, and computes the times of its path."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from inference.planning.cost import (
    CostTable,
    MachineSpeed,
    compute_head_speed,
    compute_opening,
    compute_speed,
    make_cost_table,
)
from inference.planning.fleet import Fleet, FleetError, FleetLink, MachineKind
from inference.planning.predict import (
    DRAFTS_MAX,
    PathPrediction,
    PathTimes,
    StageTimes,
    compute_first_token_seconds,
    predict,
)
from inference.planning.search import CUTS_MAX, search
from inference.planning.shape import ModelShape
from inference.planning.solve import WORK_MAX, PlacedRange, Placement, is_small, solve
from inference.planning.workload import Objective, PlanWorkload, WorkloadError, split_chunk

_CHUNK_TRIES = 4


@dataclass(frozen=True)
class PlannedStage:
    """A machine and the layers [start, end) that it holds, with the memory they take and the memory they may take."""

    name: str
    kind: MachineKind
    start: int
    end: int
    held_bytes: int
    room_bytes: int


@dataclass(frozen=True)
class FleetPlan:
    """A placement of a model over a fleet. `is_exact` says that no other is better, by the numbers of `cost.py`."""

    shape: ModelShape
    fleet: Fleet
    workload: PlanWorkload
    objective: Objective
    placement: Placement
    is_exact: bool

    @property
    def stages(self) -> tuple[PlannedStage, ...]:
        """The stages in path order."""
        used: dict[int, int] = {}
        stages = []
        for one in self.placement:
            kind, number = self.fleet.kinds[one.kind], used.get(one.kind, 0)
            used[one.kind] = number + 1
            held = self.shape.count_held_bytes(one.start, one.end, self.workload.positions)
            room = int(kind.memory_bytes * (1 - self.fleet.head_room))
            stages.append(PlannedStage(kind.name_member(number), kind, one.start, one.end, held, room))
        return tuple(stages)

    @property
    def links(self) -> tuple[FleetLink, ...]:
        """Links between stages, and last the one back from the last stage to the first; none of one stage."""
        kinds = [self.fleet.kinds[one.kind] for one in self.placement]
        return tuple(
            self.fleet.get_link(source, target) for source, target in zip(kinds, [*kinds[1:], kinds[0]], strict=True)
        ) * (len(kinds) > 1)

    def compute_times(self) -> PathTimes:
        """The times of its path by the formulas of `cost.py`."""
        kinds = [self.fleet.kinds[one.kind] for one in self.placement]
        links = self.links
        return PathTimes(
            stages=tuple(map(self._compute_stage, self.placement)),
            hops=links[:-1],
            back=links[-1] if links else None,
            entry=self.fleet.get_link(self.fleet.client, kinds[0]),
            leave=self.fleet.get_link(kinds[-1], self.fleet.client),
            opening_s=max(compute_opening(self.fleet, one) for one in kinds),
        )

    def predict(self, measured: PathTimes | None = None) -> PathPrediction:
        """What the plan does; with `measured` times of its stages and links in place of the fleet's numbers.

        Raises WorkloadError where those are of another number of stages.
        """
        if measured is not None and len(measured.stages) != len(self.placement):
            raise WorkloadError(f"the plan has {len(self.placement)} stages, {len(measured.stages)} were measured")
        return predict(measured or self.compute_times(), self.workload, self.shape.row_bytes)

    def _compute_stage(self, choice: PlacedRange) -> StageTimes:
        speed = compute_speed(self.fleet.kinds[choice.kind], self.shape)
        is_last = choice.end == len(self.shape.layers)
        _, chunk_rows = self.workload.compute_chunks(len(self.placement))
        most = max(self.workload.drafts, DRAFTS_MAX) + 1

        def add_up(rows: float, context: float) -> float:
            return self.fleet.stage_s + _add_layers(speed, self.shape, choice, rows, context)

        head_speed = compute_head_speed(self.fleet.kinds[choice.kind], self.shape)
        heads = [head_speed.compute_seconds(self.shape.head, rows, 0) * is_last for rows in range(1, most + 1)]
        context = self.workload.decode_context
        return StageTimes(
            pass_s=tuple(add_up(rows, context) + heads[rows - 1] for rows in range(1, most + 1)),
            chunk_s=sum(
                add_up(rows, self.workload.prefill_context) for rows in split_chunk(chunk_rows, choice.start == 0)
            ),
            head_s=heads[0],
        )


def _add_layers(speed: MachineSpeed, shape: ModelShape, choice: PlacedRange, rows: float, context: float) -> float:
    layers = shape.layers[choice.start : choice.end]
    seconds = {one: speed.compute_seconds(one, rows, context) for one in set(layers)}
    return sum(seconds[one] for one in layers)


def make_plan(
    shape: ModelShape,
    fleet: Fleet,
    workload: PlanWorkload,
    objective: Objective = Objective.DECODE,
    known: Iterable[Placement] = (),
    work_max: int = WORK_MAX,
    cuts: int = CUTS_MAX,
) -> FleetPlan:
    """The best plan by an objective: exact where the fleet is small, else searched for and no worse than `known` ones.

    The wait for a first token depends on how a prompt is cut, which depends on the number of stages: the plan is the
    best found for the cut that its own number of stages gives. Raises FleetTooSmall where nothing fits.
    """
    if workload.prompt_tokens + workload.answer_tokens > shape.context_max:
        raise WorkloadError(
            f"{shape.name} has a context of {shape.context_max} positions, not of"
            f" {workload.prompt_tokens + workload.answer_tokens}: plan for fewer tokens"
        )
    blank = FleetPlan(shape, fleet, workload, objective, (), False)
    if objective is not Objective.FIRST_TOKEN:
        return _place(blank, make_cost_table(shape, fleet, workload, objective), known, work_max, cuts)
    plans: list[FleetPlan] = []
    stages, tried = 2, set[tuple[int, float]]()
    while workload.compute_chunks(stages) not in tried and len(tried) < _CHUNK_TRIES:
        tried.add(workload.compute_chunks(stages))
        table = make_cost_table(shape, fleet, workload, objective, stages)
        plans.append(_place(blank, table, known, work_max, cuts))
        stages = len(plans[-1].placement)
    return min(plans, key=lambda one: compute_first_token_seconds(one.compute_times(), workload, shape.row_bytes))


def make_fixed_plan(
    shape: ModelShape, fleet: Fleet, workload: PlanWorkload, stages: Sequence[tuple[str, int, int]]
) -> FleetPlan:
    """The plan of a path that is given: (machine, start, end) of each stage, in order.

    A machine is named by its kind, or as a plan names it: `rtx4090-2` is one of the kind `rtx4090`, all of them alike.

    Raises FleetError for a path that does not pass every layer once in order, or takes machines that there are not.
    Memory is not asked about: `PlannedStage` says what each stage takes and may take.
    """
    kinds = [one.name for one in fleet.kinds]
    numbered = {f"{one.name}-{number}": one.name for one in fleet.kinds for number in range(1, one.count + 1)}
    taken: list[str] = []
    expected = 0
    for name, start, end in stages:
        if name not in kinds and name not in numbered:
            raise FleetError(f"the path names {name!a:.60}, which is no machine of the fleet: use {', '.join(kinds)}")
        taken.append(name if name in kinds else numbered[name])
        if start != expected or not start < end <= len(shape.layers):
            raise FleetError(f"a stage has layers {start}:{end} where {expected} is the next of {len(shape.layers)}")
        expected = end
    if expected != len(shape.layers):
        raise FleetError(f"the path ends at layer {expected} of {len(shape.layers)}: give every layer a stage")
    singles = [name for name, _, _ in stages if name not in kinds]
    for name in singles:
        if singles.count(name) > 1:
            raise FleetError(f"the path takes machine {name} twice: a machine holds one range of layers")
    for kind in fleet.kinds:
        if taken.count(kind.name) > kind.count:
            raise FleetError(f"the path takes more machines {kind.name} than the {kind.count} there are")
    placement = tuple(
        PlacedRange(kinds.index(name), start, end) for name, (_, start, end) in zip(taken, stages, strict=True)
    )
    return FleetPlan(shape, fleet, workload, Objective.DECODE, placement, False)


def _place(blank: FleetPlan, table: CostTable, known: Iterable[Placement], work_max: int, cuts: int) -> FleetPlan:
    """The plan with the best placement of a table."""
    is_throughput = blank.objective is Objective.THROUGHPUT
    is_exact = is_small(table, is_throughput, work_max)
    placement = solve(table, is_throughput) if is_exact else search(table, is_throughput, known, cuts)
    return dataclasses.replace(blank, placement=placement, is_exact=is_exact)
