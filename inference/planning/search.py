"""A good placement over many unlike machines: the best cut of an order of machines, and a search over orders.

For one order the best ranges are found exactly, machines left out where that is better (dynamic programming over
machine and layers covered). Orders start from nearest neighbours and from the fastest, and are improved by swaps and
moves until none helps or the budget is spent. Deterministic: draws are seeded. The gap to the exact search is measured
by tests/unit/inference/planning/test_search.py and stated in docs/scale.md.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import numpy as np

from inference.planning.cost import CostTable, Table
from inference.planning.solve import (
    FleetTooSmall,
    PlacedRange,
    Placement,
    compute_slowest,
    compute_sum,
    compute_value,
    explain_absence,
    solve_with_repeats,
)
from proto_specs.limits import STAGES_MAX

CUTS_MAX = 3000
"""Orders that are cut in one search."""
_CUTS_MIN = 30
_WORK_MAX = 500_000_000
"""Additions in all cuts of a search: beyond some fifty machines there are fewer."""
_STARTS = 3
_LIMITS_TRIED = 16
_POWER, _RATIO_MAX = 8.0, 1e6
_DEAR = 100.0
_KICKS = 3
_TOLERANCE = 1e-12
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
        raise FleetTooSmall(f"{explain_absence(table)} (a search found no placement, which is no proof)")
    found += [by_sum] if by_sum else []
    if is_throughput or table.repeats:
        starts = [_complete(table, one) for one in found]
        smooth = _improve(_make_smooth(table, found), starts, np.inf, False, cuts)
        starts += [_complete(table, smooth)] if smooth else []
        quickest = _improve(table, starts, np.inf, True, cuts)
        found += [one for one in (smooth, quickest) if one]
        found += _search_limits(table, found, is_throughput, cuts)
    short = [one for one in found if len(one) <= STAGES_MAX]
    if not short:
        raise FleetTooSmall(
            f"the model takes more than {STAGES_MAX} stages of this fleet: use machines with more memory"
        )
    return min(short, key=lambda one: (compute_value(table, one, is_throughput), compute_sum(table, one)))


def _make_smooth(table: CostTable, found: list[Placement]) -> CostTable:
    """A table whose sums are small where no stage and link is slow: of high powers of their times."""
    unit = min(compute_slowest(table, one) for one in found)
    none = np.zeros_like(table.hop)
    stage, hop = (np.minimum(one / unit, _RATIO_MAX) ** _POWER for one in (table.stage, table.sending))
    stage[~np.isfinite(table.stage)] = np.inf
    return CostTable(table.counts, stage, hop, none, none, np.zeros_like(table.alone))


def _search_limits(table: CostTable, found: list[Placement], is_throughput: bool, cuts: int) -> list[Placement]:
    """Placements of small sums under limits of the slowest stage: the least known, and of a plan for the first token
    those that halving comes to, as in the exact search.
    """
    more = list(found)

    def search_under(limit: float) -> Placement | None:
        starts = [_complete(table, known) for known in more]
        one = _improve(table, starts, limit, False, cuts // _LIMITS_TRIED)
        more.extend([one] if one else [])
        return one

    search_under(min(compute_slowest(table, one) for one in found))
    if not is_throughput:
        free = min(found, key=lambda one: compute_sum(table, one))
        solve_with_repeats(table, free, search_under, _LIMITS_TRIED)
    return more


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
    placement: list[PlacedRange] = []
    while place:
        kinds = list(order[:place])
        ways, here = hop[kinds, order[place]][:, None], stage[order[place]][None, :, end]
        sent = np.maximum(costs[:place], ways) if is_slowest else costs[:place] + ways
        options = np.maximum(sent, here) if is_slowest else sent + here
        previous, start = divmod(int(np.argmin(options)), options.shape[1])
        placement.append(PlacedRange(order[place], start, end))
        place, end = previous, start
    placement.append(PlacedRange(order[0], 0, end))
    return tuple(reversed(placement))


def _improve(table: CostTable, starts: list[Order], limit: float, is_slowest: bool, cuts: int) -> Placement | None:
    """The best placement of a search over orders from the best starts; None where none keeps the limit.

    On the way what is over the limit is dear rather than impossible: else most orders would be equally bad.
    """
    stage = np.where(table.stage > limit, table.stage * _DEAR, table.stage)
    hop = np.where(table.sending > limit, table.hop + table.sending * _DEAR, table.hop)
    if is_slowest:
        stage, hop = table.stage, table.sending

    def rate(order: Order) -> float:
        return _cover(table, stage, hop, order, is_slowest)[0]

    ranked = sorted((rate(order), order) for order in {*starts, *_make_starts(table)})[:_STARTS]
    draws = random.Random(_SEED)
    best_value, best = ranked[0]
    while cuts > 0:
        value, order = ranked.pop(0) if ranked else _kick(best, rate, draws)
        value, order, spent = _descend(value, order, rate, draws, cuts)
        cuts -= spent + 1
        if value < best_value:
            best_value, best = value, order
    return cut(table, best, limit, is_slowest)[1]


def _kick(order: Order, rate: Callable[[Order], float], draws: random.Random) -> tuple[float, Order]:
    """An order some way from another: a few machines elsewhere."""
    moved = list(order)
    for _ in range(_KICKS):
        moved.insert(draws.randrange(len(moved)), moved.pop(draws.randrange(len(moved))))
    return rate(tuple(moved)), tuple(moved)


def _descend(
    value: float, order: Order, rate: Callable[[Order], float], draws: random.Random, cuts: int
) -> tuple[float, Order, int]:
    """(value, order) that no swap and no move makes better, or the best after so many `cuts`; and how many it took."""
    spent, is_better = 0, True
    while is_better and spent < cuts:
        is_better = False
        for moved in _list_moves(order, draws):
            spent += 1
            rated = rate(moved)
            if rated < value * (1 - _TOLERANCE):
                value, order, is_better = rated, moved, True
                break
            if spent >= cuts:
                break
    return value, order, spent


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
