"""A good placement over many unlike machines: the best cut of an order of machines, and a search over orders.

For one order the best ranges are found exactly, machines left out where that is better (dynamic programming over
machine and layers covered). Orders start from nearest neighbours and from the fastest, and are improved by swaps and
moves until none helps or the budget is spent. Deterministic: draws are seeded. The gap to the exact search is measured
by tests/unit/inference/planning/test_search.py and stated in docs/scale.md.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

import numpy as np

from inference.planning.cost import CostTable, Table
from inference.planning.solve import (
    Choice,
    FleetTooSmall,
    Placement,
    compute_slowest,
    compute_sum,
    compute_value,
    explain_absence,
    list_limits,
)
from proto_specs.limits import STAGES_MAX

CUTS_MAX = 3000
"""Orders that are cut in one search."""
_CUTS_MIN = 30
_WORK_MAX = 500_000_000
"""Additions in all cuts of a search: beyond some fifty machines there are fewer."""
_STARTS = 3
_LIMITS_TRIED = 6
_SEED = 1

Order = tuple[int, ...]
"""Kinds of machines in path order; the first is used, later ones may be left out."""


def search(table: CostTable, is_throughput: bool, known: Iterable[Placement] = (), cuts: int = CUTS_MAX) -> Placement:
    """The best placement found, never worse than any `known` one. Raises FleetTooSmall where none was found."""
    found = list(known)
    cuts = max(_CUTS_MIN, min(cuts, _WORK_MAX // (sum(table.counts) ** 2 * table.layers)))
    orders = [_complete(table, one) for one in found]
    by_sum = _improve(table, orders, np.inf, False, cuts)
    if by_sum is None and not found:
        raise FleetTooSmall(explain_absence(table))
    found += [by_sum] if by_sum else []
    if is_throughput or table.repeats:
        starts = [*orders, *(_complete(table, one) for one in found)]
        quickest = _improve(table, starts, np.inf, True, cuts)
        found += [quickest] if quickest else []
        starts += [_complete(table, quickest)] if quickest else []
        for limit in _list_tries(table, found, is_throughput):
            one = _improve(table, starts, limit, False, cuts // _LIMITS_TRIED)
            found += [one] if one else []
    short = [one for one in found if len(one) <= STAGES_MAX]
    if not short:
        raise FleetTooSmall(
            f"the model takes more than {STAGES_MAX} stages of this fleet: use machines with more memory"
        )
    return min(short, key=lambda one: (compute_value(table, one, is_throughput), compute_sum(table, one)))


def _list_tries(table: CostTable, found: list[Placement], is_throughput: bool) -> list[float]:
    """Limits of the slowest stage under which the sum is searched for."""
    slowest = sorted(compute_slowest(table, one) for one in found)
    if is_throughput:
        return slowest[:1]
    limits = list_limits(table, slowest[-1])
    limits = limits[limits >= slowest[0]]
    picked = np.linspace(0, len(limits) - 1, min(_LIMITS_TRIED, len(limits))).astype(int)
    return [float(limits[one]) for one in picked]


def cut(table: CostTable, order: Order, limit: float, is_slowest: bool) -> tuple[float, Placement | None]:
    """The best ranges of one order, and their value: the sum under a limit, or the slowest stage or link."""
    stage = np.where(table.stage > limit, np.inf, table.stage)
    hop = table.sending if is_slowest else np.where(table.sending > limit, np.inf, table.hop)
    total, costs = _cover(table, stage, hop, order, is_slowest)
    return total, _trace(table, stage, hop, order, costs, is_slowest) if np.isfinite(total) else None


def _cover(table: CostTable, stage: Table, hop: Table, order: Order, is_slowest: bool) -> tuple[float, Table]:
    """Value of the best cut, and for each machine of the order as the last the least cost of layers covered."""
    costs = np.full((len(order), table.layers + 1), np.inf)
    costs[0] = stage[order[0], 0]
    picked = np.array(order)
    for place in range(1, len(order)):
        ways, here = hop[picked[:place], order[place]][:, None], stage[order[place]]
        if is_slowest:
            sent = np.maximum(costs[:place], ways).min(axis=0)
            costs[place] = np.maximum(sent[:, None], here).min(axis=0)
        else:
            sent = (costs[:place] + ways).min(axis=0)
            costs[place] = (sent[:, None] + here).min(axis=0)
    return float(_finish(table, order, costs, is_slowest).min()), costs


def _finish(table: CostTable, order: Order, costs: Table, is_slowest: bool) -> Table:
    """Value with each machine of the order as the last."""
    done = costs[:, -1]
    if is_slowest:
        return done
    ends = table.ends[order[0], list(order)]
    ends[0] = table.alone[order[0]]
    return np.asarray(done + ends)


def _trace(table: CostTable, stage: Table, hop: Table, order: Order, costs: Table, is_slowest: bool) -> Placement:
    place, end = int(np.argmin(_finish(table, order, costs, is_slowest))), table.layers
    placement: list[Choice] = []
    while place:
        kinds = list(order[:place])
        ways, here = hop[kinds, order[place]][:, None], stage[order[place]][None, :, end]
        sent = np.maximum(costs[:place], ways) if is_slowest else costs[:place] + ways
        options = np.maximum(sent, here) if is_slowest else sent + here
        previous, start = divmod(int(np.argmin(options)), options.shape[1])
        placement.append(Choice(order[place], start, end))
        place, end = previous, start
    placement.append(Choice(order[0], 0, end))
    return tuple(reversed(placement))


def _improve(table: CostTable, starts: list[Order], limit: float, is_slowest: bool, cuts: int) -> Placement | None:
    """The best placement of a search over orders from the best starts."""
    stage = np.where(table.stage > limit, np.inf, table.stage)
    hop = table.sending if is_slowest else np.where(table.sending > limit, np.inf, table.hop)

    def rate(order: Order) -> float:
        return _cover(table, stage, hop, order, is_slowest)[0]

    ranked = sorted((rate(order), order) for order in {*starts, *_make_starts(table)})
    draws = random.Random(_SEED)
    best_value, best = ranked[0]
    for value, order in ranked[:_STARTS]:
        budget = cuts // _STARTS
        is_better = True
        while is_better and budget > 0:
            is_better = False
            for moved in _list_moves(order, draws):
                budget -= 1
                rated = rate(moved)
                if rated < value * (1 - 1e-12):
                    value, order, is_better = rated, moved, True
                    break
                if budget <= 0:
                    break
        if value < best_value:
            best_value, best = value, order
    return cut(table, best, limit, is_slowest)[1]


def _list_moves(order: Order, draws: random.Random) -> Iterable[Order]:
    """Swaps of two machines and moves of one, shuffled: all of them, or as many as one search tries."""
    count = len(order)
    every = 2 * count * count
    for pick in draws.sample(range(every), min(every, CUTS_MAX)):
        one, two, is_swap = pick // 2 // count, pick // 2 % count, pick % 2 == 1
        if one == two or order[one] == order[two] or (is_swap and one > two):
            continue
        moved = list(order)
        if is_swap:
            moved[one], moved[two] = moved[two], moved[one]
        else:
            moved.insert(two, moved.pop(one))
        yield tuple(moved)


def _make_starts(table: CostTable) -> list[Order]:
    """From each kind on always the nearest machine; and all by speed."""
    speed = _rank_speed(table)
    starts: list[Order] = []
    for first in range(len(table.counts)):
        left = list(table.counts)
        order = [first]
        left[first] -= 1
        while any(left):
            open_kinds = [kind for kind, count in enumerate(left) if count]
            order.append(min(open_kinds, key=lambda kind: (table.hop[order[-1], kind] + speed[kind], kind)))
            left[order[-1]] -= 1
        starts.append(tuple(order))
    by_speed = sorted(range(len(table.counts)), key=lambda kind: speed[kind])
    starts.append(tuple(kind for kind in by_speed for _ in range(table.counts[kind])))
    return starts


def _rank_speed(table: CostTable) -> list[float]:
    """Seconds of a layer on each kind, more where few of them fit."""
    single = table.stage[:, range(table.layers), range(1, table.layers + 1)]
    return [float(np.mean(one)) for one in single]


def _complete(table: CostTable, placement: Placement) -> Order:
    """The order of a placement, with all machines that it leaves out behind."""
    order = [one.kind for one in placement]
    left = [count - order.count(kind) for kind, count in enumerate(table.counts)]
    return (*order, *(kind for kind, count in enumerate(left) for _ in range(count)))
