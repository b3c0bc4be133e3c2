"""What a simulation of a network reports: figures of one seed, and of many, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from node.sim.network.tally import Tally
from node.sim.network.workers import SimWorker
from node.sim.network.world import WorldPlan

COMPLETE_GOAL, PAUSE_P95_GOAL_S = 0.999, 5.0


@dataclass(frozen=True, slots=True)
class NetworkOutcome:
    """A seed's figures. The lists are what percentiles are taken of, so that seeds can be put together."""

    seed: int
    requests: int
    complete: int
    firsts_s: tuple[float, ...]
    paces: tuple[float, ...]
    pauses_s: tuple[float, ...]
    sums: dict[str, float]
    counts: dict[str, int]
    violations: tuple[str, ...]


def summarize_coarse(seed: int, plan: WorldPlan, tally: Tally) -> NetworkOutcome:
    """A seed's figures, of the coarse model."""
    return summarize(seed, plan, tally, ())


def summarize(seed: int, plan: WorldPlan, tally: Tally, workers: Collection[SimWorker]) -> NetworkOutcome:
    """A seed's figures. Requests that neither ended nor failed are not complete."""
    sums = {
        "hours": plan.minutes / 60.0,
        "orders": tally.orders,
        "tokens": tally.tokens,
        "price_nmyl": tally.price_nmyl,
        "replayed_rows": tally.replayed_rows,
        "wasted_rows": tally.wasted_rows,
        "stages": tally.stages,
        "liar_stages_before": tally.liar_stages_before,
        "liar_stages_after": tally.liar_stages_after,
        "liars": sum(one.rig.is_liar for one in workers),
        "workers": len(workers),
        "survivor_bytes": tally.survivor_bytes,
        "moved_bytes": tally.moved_bytes,
        "uncovered_layer_s": tally.uncovered_layer_s,
    }
    return NetworkOutcome(
        seed,
        tally.requests,
        tally.complete,
        tuple(tally.firsts_s),
        tuple(tally.paces),
        tuple(tally.pauses_s),
        {name: float(value) for name, value in sums.items()},
        dict(sorted(tally.counts.items())),
        tuple(tally.violations),
    )


def merge_outcomes(outcomes: Sequence[NetworkOutcome]) -> dict[str, Any]:
    """All seeds together, as `--json` prints it. Times are seconds."""
    sums: dict[str, float] = {}
    counts: dict[str, int] = {}
    for one in outcomes:
        for name, value in one.sums.items():
            sums[name] = sums.get(name, 0.0) + value
        for what, count in one.counts.items():
            counts[what] = counts.get(what, 0) + count
    requests = sum(one.requests for one in outcomes)
    complete = sum(one.complete for one in outcomes)
    pauses = measure_spread([value for one in outcomes for value in one.pauses_s])
    share = complete / requests if requests else 1.0
    stages = max(1.0, sums["stages"])
    return {
        "seeds": len(outcomes),
        "requests": requests,
        "complete": complete,
        "complete_share": round(share, 6),
        "first_token_s": measure_spread([value for one in outcomes for value in one.firsts_s]),
        "tokens_per_s": measure_spread([value for one in outcomes for value in one.paces]),
        "pause_s": pauses,
        "continuations_per_request": round(counts.get("continuations", 0) / max(1, complete), 5),
        "stages_per_order": round(sums["stages"] / max(1.0, sums["orders"]), 3),
        "moves_per_hour": round(counts.get("moves", 0) / sums["hours"], 3),
        "uncovered_layer_s": round(sums["uncovered_layer_s"], 1),
        "survivor_bytes": round(sums["survivor_bytes"]),
        "moved_bytes": round(sums["moved_bytes"]),
        "liars": {
            "workers_share": round(sums["liars"] / max(1.0, sums["workers"]), 5),
            "traffic_share_before_found": round(sums["liar_stages_before"] / stages, 5),
            "traffic_share_after_found": round(sums["liar_stages_after"] / stages, 5),
        },
        "replayed_positions": round(sums["replayed_rows"]),
        "wasted_replay_positions": round(sums["wasted_rows"]),
        "price_nmyl_per_token": round(sums["price_nmyl"] / max(1.0, sums["tokens"]), 1),
        "counts": dict(sorted(counts.items())),
        "goals": {
            "complete_share >= 0.999": share >= COMPLETE_GOAL,
            "p95 pause <= 5 s": pauses["p95"] <= PAUSE_P95_GOAL_S,
        },
        "violations": [{"seed": one.seed, "violations": list(one.violations)} for one in outcomes if one.violations],
    }


def measure_spread(values: Sequence[float]) -> dict[str, float]:
    """Percentiles by the nearest rank; zeros of nothing."""
    ordered = sorted(values)

    def at(share: float) -> float:
        return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) if ordered else 0.0

    return {"count": len(ordered), "p50": at(0.5), "p95": at(0.95), "p99": at(0.99), "max": at(1.0)}


COMPARED = (
    ("complete_share", None),
    ("first_token_s", "p50"),
    ("first_token_s", "p95"),
    ("tokens_per_s", "p50"),
    ("pause_s", "p50"),
    ("pause_s", "p95"),
    ("continuations_per_request", None),
    ("stages_per_order", None),
    ("price_nmyl_per_token", None),
)


def compare_models(fine: dict[str, Any], coarse: dict[str, Any]) -> dict[str, Any]:
    """The figures that both models have, and the coarse one's as a multiple of the fine one's."""
    figures = {}
    for name, part in COMPARED:
        pair = [one[name] if part is None else one[name][part] for one in (fine, coarse)]
        ratio = round(pair[1] / pair[0], 3) if pair[0] else None
        figures[name if part is None else f"{name} {part}"] = {"fine": pair[0], "coarse": pair[1], "ratio": ratio}
    return {"figures": figures, "fine": fine, "coarse": coarse}


def format_comparison(comparison: dict[str, Any]) -> list[str]:
    """A line for each figure."""
    lines = [f"{'':<28}{'fine':>12}{'coarse':>12}{'ratio':>8}"]
    for name, one in comparison["figures"].items():
        ratio = "" if one["ratio"] is None else f"{one['ratio']:.2f}"
        lines.append(f"{name:<28}{one['fine']:>12.4f}{one['coarse']:>12.4f}{ratio:>8}")
    return lines


def format_violations(result: dict[str, Any]) -> list[str]:
    """What did not hold, seed by seed, and the commands that run them again."""
    return [
        f"seed {one['seed']}: {'; '.join(one['violations'])}\n  replay: {one['replay']}" for one in result["violations"]
    ]


def format_table(result: dict[str, Any]) -> list[str]:
    """The same for people, a line each."""
    first, pace, pause, liars = (result[name] for name in ("first_token_s", "tokens_per_s", "pause_s", "liars"))
    return [
        f"requests                 {result['requests']}, complete {100 * result['complete_share']:.3f} %",
        f"first token              p50 {first['p50']:.2f} s, p95 {first['p95']:.2f} s, p99 {first['p99']:.2f} s",
        f"tokens per second        p50 {pace['p50']:.1f}, p95 {pace['p95']:.1f}",
        f"pause at a loss          {pause['count']} times: p50 {pause['p50']:.2f} s, p95 {pause['p95']:.2f} s,"
        f" max {pause['max']:.2f} s",
        f"continuations            {result['continuations_per_request']:.4f} a request",
        f"stages                   {result['stages_per_order']:.2f} an order",
        f"moves                    {result['moves_per_hour']:.1f} an hour",
        f"layers uncovered         {result['uncovered_layer_s']:.0f} s",
        f"fetched after a death    {result['survivor_bytes']} bytes by survivors",
        f"liars                    {100 * liars['workers_share']:.1f} % of workers,"
        f" {100 * liars['traffic_share_before_found']:.1f} % of stages before they are found out,"
        f" {100 * liars['traffic_share_after_found']:.1f} % after",
        f"positions replayed       {result['replayed_positions']}, {result['wasted_replay_positions']} of them in vain",
        f"price                    {result['price_nmyl_per_token']:.0f} nmyl a token",
    ]
