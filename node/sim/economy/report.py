"""What a simulated economy reports: margins of each deviation over seeds, as JSON and as a table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from node.sim.economy.compare import Comparison, EconomyRun
from node.sim.economy.plan import EconomyPlan, build_params
from node.sim.economy.scenarios import DEVIATIONS
from node.sim.economy.supply import RoleBalance, SupplyPoint
from proto_specs.types.common import NMYL_PER_MYL

ERRORS = 2
"""A margin that is further below zero than so many of its standard errors is one."""


def to_myl(amount: float) -> float:
    """An amount in nmyl as MYL, to six digits after the point."""
    return round(amount / NMYL_PER_MYL, 6)


def summarize_comparisons(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """One deviation of one strength, over seeds. Money is MYL an epoch; `error` is the standard error of the margin."""
    first = comparisons[0]
    deviation, epochs = DEVIATIONS[first.scenario], first.epochs
    margins = [one.margin / epochs for one in comparisons]
    honest = statistics.fmean(one.honest_profit / epochs for one in comparisons)
    margin = statistics.fmean(margins)
    counts: Counter[str] = Counter()
    for one in comparisons:
        counts.update(one.deviating.counts)
    error = statistics.stdev(margins) / len(margins) ** 0.5 if len(margins) > 1 else 0.0
    return {
        "scenario": first.scenario.value,
        "does": deviation.summary,
        "strength": first.strength,
        "is_usual": first.strength == deviation.strengths[0],
        "unit": deviation.unit,
        "seeds": len(comparisons),
        "honest": to_myl(honest),
        "deviating": to_myl(honest - margin),
        "margin": to_myl(margin),
        "error": to_myl(error),
        "pays": margin + ERRORS * error < 0,
        "harm_to_others": to_myl(statistics.fmean(one.harm / epochs for one in comparisons)),
        "counts": dict(sorted(counts.items())),
    }


def describe_plan(plan: EconomyPlan) -> dict[str, Any]:
    """The assumptions, and the money parameters of the chain they are put on."""
    params = build_params(plan)
    return {"assumptions": asdict(plan), "inference": asdict(params.inference)}


def describe_run(run: EconomyRun) -> dict[str, Any]:
    """An honest run by role, MYL a block."""
    profits: Counter[str] = Counter()
    for name, amount in run.profits.items():
        profits[name.partition("-")[0]] += amount
    per_block = max(1, run.blocks)
    return {
        "blocks": run.blocks,
        "requests": run.served,
        "profit": {name: to_myl(amount / per_block) for name, amount in sorted(profits.items())},
        "cost": {name: to_myl(amount / per_block) for name, amount in run.costs.items()},
        "minted": to_myl(run.minted / per_block),
        "burned_fees": to_myl(run.burned_fees / per_block),
        "burned_shares": to_myl(run.burned_shares / per_block),
        "weight": run.weight // per_block,
        "counts": run.counts,
        "failures": run.failures,
    }


def describe_supply(points: Sequence[SupplyPoint]) -> list[dict[str, Any]]:
    """The points, in MYL."""
    return [
        {
            "year": one.year,
            "minted": to_myl(one.minted),
            "burned": to_myl(one.burned),
            "issuance": to_myl(one.issuance),
        }
        for one in points
    ]


def describe_roles(roles: Sequence[RoleBalance]) -> list[dict[str, Any]]:
    """Incomes and costs without emission, MYL a block, and at which share of price or traffic a role breaks even."""
    return [
        {
            "role": one.role,
            "income": to_myl(one.income),
            "cost": to_myl(one.cost),
            "is_sustained": one.income >= one.cost,
            "breaks_even_permille": one.break_even_permille,
            "of": one.scale,
        }
        for one in roles
    ]


def format_comparisons(found: Sequence[dict[str, Any]]) -> list[str]:
    """A table for people: MYL an epoch."""
    lines = [f"{'scenario':<17}{'strength':>9}{'honest':>10}{'deviating':>11}{'margin':>10}{'+-':>8}  {'harm':>9}"]
    for one in found:
        mark = "  PAYS" if one["pays"] else ""
        lines.append(
            f"{one['scenario']:<17}{one['strength']:>9}{one['honest']:>10.3f}{one['deviating']:>11.3f}"
            f"{one['margin']:>10.3f}{one['error']:>8.3f}  {one['harm_to_others']:>9.3f}{mark}"
        )
    return lines


def format_roles(found: Sequence[dict[str, Any]]) -> list[str]:
    """Who lives on fees alone, a line each."""
    return [
        f"without emission, {one['role']}: {one['income']:.4f} MYL a block in, {one['cost']:.4f} out; "
        f"even at {one['breaks_even_permille'] / 10:.1f} % of the {one['of']}"
        for one in found
    ]
