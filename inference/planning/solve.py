"""The best placement, exactly: layers in ranges over machines, each at most once, in the best order.

Dynamic programming over (how many of each kind are used, kind of the last, kind of the first, layers covered): kinds
are what count, so that machines alike cost nothing. A limit on the slowest stage and link turns the sum into the other
objectives: the least limit that is feasible is the best throughput, and the wait for a first token is the sum under a
limit plus its repeats, whose best is found by halving the limits that can still win.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from inference.errors import ModelError
from inference.planning.cost import CostTable, Table
from proto_specs.limits import STAGES_MAX

WORK_MAX = 6_000_000_000
"""Additions that an exact search may take: some ten seconds."""
_SOLVES_OF_LIMIT = 12
"""How often a search over limits solves, about."""
_TOLERANCE = 1e-9


class FleetTooSmall(ModelError):
    """No placement fits: the machines together, or a layer by itself, lack memory."""


@dataclass(frozen=True)
class PlacedRange:
    """A stage: layers [start, end) on a machine of kind number `kind`."""

    kind: int
    start: int
    end: int


Placement = tuple[PlacedRange, ...]


def compute_sum(table: CostTable, placement: Placement) -> float:
    """Seconds of a placement's stages, hops and ends together, in path order."""
    first, last = placement[0], placement[-1]
    total = float(table.alone[first.kind] if len(placement) == 1 else table.ends[first.kind, last.kind])
    total += sum(float(table.stage[one.kind, one.start, one.end]) for one in placement)
    return total + sum(float(table.hop[one.kind, two.kind]) for one, two in itertools.pairwise(placement))


def compute_slowest(table: CostTable, placement: Placement) -> float:
    """Seconds of the slowest stage, or of the link that is occupied longest."""
    stages = [float(table.stage[one.kind, one.start, one.end]) for one in placement]
    return max(stages + [float(table.sending[one.kind, two.kind]) for one, two in itertools.pairwise(placement)])


def compute_value(table: CostTable, placement: Placement, is_throughput: bool) -> float:
    """What a search makes small."""
    slowest = compute_slowest(table, placement)
    return slowest if is_throughput else compute_sum(table, placement) + table.repeats * slowest


def is_small(table: CostTable, is_throughput: bool, work_max: int = WORK_MAX) -> bool:
    """Whether the exact search takes no more additions than `work_max`."""
    kinds, width = len(table.counts), table.layers + 1
    states = int(np.prod([float(one + 1) for one in table.counts]))
    solves = _SOLVES_OF_LIMIT if is_throughput or table.repeats else 1
    return states * kinds * kinds * width * width * solves <= work_max


def solve(table: CostTable, is_throughput: bool) -> Placement:
    """The best placement of a table. Raises FleetTooSmall where there is none.

    Of the placements of the best throughput it is one with the least sum.
    """
    free = solve_sum(table, np.inf)
    if free is None:
        raise FleetTooSmall(explain_absence(table))
    if is_throughput:
        found = solve_sum(table, _find_least_limit(table, compute_slowest(table, free)))
        assert found is not None, "the least limit is feasible"
        return found
    return solve_with_repeats(table, free, lambda limit: solve_sum(table, limit)) if table.repeats else free


def solve_sum(table: CostTable, limit: float) -> Placement | None:
    """The placement of the least sum among those whose stages and links are no slower than `limit`; None for none."""
    stage = np.where(table.stage > limit, np.inf, table.stage)
    hop = np.where(table.sending > limit, np.inf, table.hop)
    reached = _sweep(table, stage, hop)
    best, found = np.inf, None
    for used, costs in reached.items():
        total = costs[:, :, -1] + table.ends.T  # [last, first]
        if sum(used) == 1:
            total = np.full_like(total, np.inf)
            np.fill_diagonal(total, np.diagonal(costs[:, :, -1]) + table.alone)
        place = int(np.argmin(total))
        if total.flat[place] < best:
            best, found = float(total.flat[place]), (used, *divmod(place, len(table.counts)))
    return None if found is None else _trace(reached, stage, hop, *found)


def _sweep(table: CostTable, stage: Table, hop: Table) -> dict[tuple[int, ...], Table]:
    """Least seconds [last, first, layers covered] for each number of machines used of each kind."""
    kinds, width = len(table.counts), table.layers + 1
    reached: dict[tuple[int, ...], Table] = {}
    for kind in range(kinds):
        costs = np.full((kinds, kinds, width), np.inf)
        costs[kind, kind] = stage[kind, 0]
        reached[tuple(int(one == kind) for one in range(kinds))] = costs
    most = min(STAGES_MAX, table.layers)
    states = sorted(itertools.product(*(range(one + 1) for one in table.counts)), key=sum)
    for used in states[1:]:
        costs_here = reached.get(used)
        if costs_here is None or sum(used) >= most or not np.isfinite(costs_here).any():
            continue
        for kind in range(kinds):
            if used[kind] == table.counts[kind]:
                continue
            sent = (costs_here + hop[:, kind, None, None]).min(axis=0)  # [first, s]
            if not np.isfinite(sent).any():
                continue
            grown = (sent[:, :, None] + stage[kind]).min(axis=1)  # [first, e]
            after = (*used[:kind], used[kind] + 1, *used[kind + 1 :])
            if after not in reached:
                reached[after] = np.full((kinds, kinds, width), np.inf)
            np.minimum(reached[after][kind], grown, out=reached[after][kind])
    return reached


def _trace(
    reached: dict[tuple[int, ...], Table], stage: Table, hop: Table, used: tuple[int, ...], last: int, first: int
) -> Placement:
    """The placement behind a final cost, from its last stage to its first."""
    placement: list[PlacedRange] = []
    end = stage.shape[1] - 1
    while sum(used) > 1:
        before = (*used[:last], used[last] - 1, *used[last + 1 :])
        options = reached[before][:, first, :] + hop[:, last, None] + stage[last, None, :, end]  # [last before, s]
        previous, start = divmod(int(np.argmin(options)), options.shape[1])
        placement.append(PlacedRange(last, start, end))
        used, last, end = before, previous, start
    placement.append(PlacedRange(last, 0, end))
    return tuple(reversed(placement))


def list_limits(table: CostTable, most: float) -> Table:
    """Every time that a slowest stage or link can have, up to `most`, from the least."""
    times = np.concatenate([table.stage[np.isfinite(table.stage)], table.sending.ravel()])
    return np.unique(times[times <= most * (1 + _TOLERANCE)])


def _find_least_limit(table: CostTable, feasible: float) -> float:
    limits = list_limits(table, feasible)
    low, high = 0, len(limits) - 1
    while low < high:
        middle = (low + high) // 2
        found = solve_sum(table, float(limits[middle]))
        if found is None:
            low = middle + 1
        else:
            high = min(middle, int(np.searchsorted(limits, compute_slowest(table, found))))
    return float(limits[high])


def solve_with_repeats(
    table: CostTable, free: Placement, solve_under: Callable[[float], Placement | None], tries: float = np.inf
) -> Placement:
    """The least sum + repeats x slowest, from the least sum `free` and what has the least sum under a limit.

    Under a lower limit sums only grow, which rules out most limits. After so many `tries` the best so far is it.
    """
    limits = list_limits(table, compute_slowest(table, free))
    best, best_value = free, compute_value(table, free, False)
    # Limits low..high-1 are open; a sum under any of them is at least that under a higher one.
    open_ranges = [(0, _count_below(limits, compute_slowest(table, free)), compute_sum(table, free))]
    while open_ranges and tries > 0:
        low, high, least_sum = open_ranges.pop()
        # Where the slowest alone, with the least sum, is no better than what is known, higher ones are not either.
        high = min(high, _count_below(limits, (best_value - least_sum) / table.repeats))
        if low >= high:
            continue
        middle, tries = (low + high) // 2, tries - 1
        found = solve_under(float(limits[middle]))
        if found is None:
            open_ranges.append((middle + 1, high, least_sum))
            continue
        value = compute_value(table, found, False)
        if value < best_value:
            best, best_value = found, value
        open_ranges.append((low, _count_below(limits, compute_slowest(table, found)), compute_sum(table, found)))
        open_ranges.append((middle + 1, high, least_sum))
    return best


def _count_below(limits: Table, value: float) -> int:
    return int(np.searchsorted(limits, value * (1 - _TOLERANCE)))


def explain_absence(table: CostTable) -> str:
    """Why no placement fits, in one line with what to do."""
    single = np.isfinite(table.stage[:, range(table.layers), range(1, table.layers + 1)]).any(axis=0)
    if not single.all():
        return (
            f"no machine of the fleet holds layer {int(np.argmin(single))} with its KV memory and the head-room: add a"
            " larger one, lower the precision, or plan for fewer tokens"
        )
    return (
        "the fleet's memory does not hold the model with its KV memory and the head-room: add machines, lower the"
        " precision, or plan for fewer tokens"
    )
