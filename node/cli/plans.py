"""`myelin model plan`: who of a fleet holds which layers of a model, how fast that is, and what holds it back."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from inference.model.store import ShardStore
from inference.planning.changes import ChangedPlan, list_ends, list_gains, list_sensitivity
from inference.planning.config import CONFIG_FILE, PRECISIONS, read_config_shape
from inference.planning.fleet import FleetError
from inference.planning.fleet_text import EXAMPLE_FLEET, read_fleet
from inference.planning.plan import FleetPlan, make_fixed_plan, make_plan
from inference.planning.report import find_bottleneck, list_hops, list_stages
from inference.planning.shape import ModelShape, make_manifest_shape
from inference.planning.workload import Objective, PlanWorkload
from node.cli.errors import CliError
from node.cli.models_dir import ModelsOption, get_models_dir
from node.cli.options import JsonOption, parse_layers
from node.cli.stored_models import find_model

_GIB = 1 << 30
_DEFAULTS = PlanWorkload()


class ModelMissing(CliError):
    """A plan is asked for of no model. Name one."""


ObjectiveOption = Annotated[
    Objective, typer.Option("--for", help="What to make best: one answer's speed, that of many, or the first wait.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(help=f"Of a config's weights: {', '.join(PRECISIONS)} (default: as the file says).")
]


def plan_command(
    model: Annotated[
        str | None,
        typer.Argument(
            help="A config.json, a directory with one, or a stored model by name or id. No weights are read."
        ),
    ] = None,
    fleet: Annotated[Path | None, typer.Option(help="The machines and links (TOML): see --example-fleet.")] = None,
    objective: ObjectiveOption = Objective.DECODE,
    prompt: Annotated[int, typer.Option(help="Tokens of a prompt.")] = _DEFAULTS.prompt_tokens,
    answer: Annotated[int, typer.Option(help="Tokens of an answer.")] = _DEFAULTS.answer_tokens,
    sessions: Annotated[int, typer.Option(help="Answers at a time: KV memory for all of them.")] = _DEFAULTS.sessions,
    acceptance: Annotated[
        float, typer.Option(help="Chance that a draft is right, where all before it were.")
    ] = _DEFAULTS.acceptance,
    drafts: Annotated[int, typer.Option(help="Drafts in one call (0: the best number).")] = _DEFAULTS.drafts,
    path: Annotated[
        str | None, typer.Option(help="Foresee this path, in place of a search: MACHINE=START:END,... in order.")
    ] = None,
    precision: PrecisionOption = None,
    wire_dtype: Annotated[str, typer.Option(help="bf16, fp16 or fp32 between stages, of a config's model.")] = "bf16",
    sensitivity: Annotated[bool, typer.Option(help="Plan again with each assumption changed in turn.")] = False,
    example_fleet: Annotated[bool, typer.Option("--example-fleet", help="Print a fleet to begin with.")] = False,
    models: ModelsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Plan a model over machines: placement, memory, bytes and time of each hop, first token, tokens per second."""
    if example_fleet:
        print(EXAMPLE_FLEET, end="")
        return
    if model is None:
        raise ModelMissing("no model is named: give a config.json or a stored model (`myelin model list`)")
    if fleet is None:
        raise FleetError(
            "no fleet is given: name its file with --fleet (`myelin model plan --example-fleet` prints one)"
        )
    workload = PlanWorkload(prompt, answer, sessions, acceptance, drafts)
    read_shape = _find_reader(model, wire_dtype, models)
    shape, machines = read_shape(precision), read_fleet(fleet)
    if path is not None:
        plan = make_fixed_plan(shape, machines, workload, _parse_path(path))
        _print(plan, as_json, is_fixed=True)
        return
    plan = make_plan(shape, machines, workload, objective)
    if sensitivity:
        others = _list_precisions(read_shape) if _is_config(model) and precision is not None else {}
        _show_outcomes(list(list_sensitivity(plan, others)), as_json)
        return
    _print(plan, as_json)


def _print(plan: FleetPlan, as_json: bool, is_fixed: bool = False) -> None:
    if as_json:
        print(json.dumps(_describe(plan) | ({} if is_fixed else _describe_changes(plan))))
        return
    console = Console()
    _show(plan, console, is_fixed)
    if not is_fixed:
        _show_changes(plan, console)


def _parse_path(text: str) -> list[tuple[str, int, int]]:
    """(machine, start, end) of each stage. Raises LayersInvalid for a range that is none."""
    stages = []
    for one in text.split(","):
        name, _, layers = one.strip().rpartition("=")
        stages.append((name, *parse_layers(layers)))
    return stages


def _is_config(model: str) -> bool:
    path = Path(model)
    return path.suffix == ".json" or (path.is_dir() and (path / CONFIG_FILE).exists())


def _find_reader(model: str, wire_dtype: str, models: Path | None) -> Callable[[str | None], ModelShape]:
    """What gives the model's shape in a precision; a stored model has its own."""
    if _is_config(model):
        return partial(read_config_shape, Path(model), wire_dtype=wire_dtype)
    store = ShardStore(get_models_dir(models))
    shape = make_manifest_shape(store.load_manifest(find_model(store, model)))

    def get_stored(precision: str | None) -> ModelShape:
        if precision is not None:
            raise CliError(f"{shape.name} is stored already, in its own precision: leave --precision out")
        return shape

    return get_stored


def _list_precisions(read_shape: Callable[[str | None], ModelShape]) -> dict[str, Callable[[], ModelShape]]:
    return {name: partial(read_shape, name) for name in PRECISIONS}


def _describe(plan: FleetPlan) -> dict[str, Any]:
    shape, times = plan.shape, plan.compute_times()
    return {
        "model": {
            "name": shape.name,
            "family": shape.family,
            "layers": len(shape.layers),
            "parameters": shape.parameters,
            "active_parameters": shape.active_parameters,
            "bytes": shape.stored_bytes,
            "bytes_per_row": shape.row_bytes,
        },
        "for": plan.objective.value,
        "is_exact": plan.is_exact,
        "workload": asdict(plan.workload),
        "stages": [asdict(one) for one in list_stages(plan, times)],
        "hops": [asdict(one) for one in list_hops(plan)],
        "prediction": asdict(plan.predict()),
        "bottleneck": asdict(find_bottleneck(plan, times)),
    }


def _describe_changes(plan: FleetPlan) -> dict[str, Any]:
    first, last = list_ends(plan)
    return {
        "first": [asdict(one) for one in first],
        "last": [asdict(one) for one in last],
        "gains": [asdict(one) for one in list_gains(plan)],
    }


def _show(plan: FleetPlan, console: Console, is_fixed: bool) -> None:
    shape, workload, times = plan.shape, plan.workload, plan.compute_times()
    how = "found by a search: docs/scale.md says how far it may be from the best"
    if is_fixed or plan.is_exact:
        how = "as given" if is_fixed else "the best there is"
    console.print(
        f"{shape.name}: {shape.parameters / 1e9:.1f} B parameters, {shape.active_parameters / 1e9:.1f} B active,"
        f" {shape.stored_bytes / 1e9:.1f} GB, {shape.row_bytes} bytes a token and hop. Placement: {how}.",
        soft_wrap=True,
        highlight=False,
    )
    table = Table("stage", "machine", "layers", "GiB held", "of", "token ms", "to the next", "hop ms", box=None)
    hops = list_hops(plan)
    for place, one in enumerate(list_stages(plan, times)):
        hop = hops[place] if hops else None
        link = f"{hop.delay_s * 1e3:.1f} ms, {hop.mbit_per_s:.0f} Mbit/s" if hop else ""
        table.add_row(
            str(place),
            one.machine,
            f"{one.start}:{one.end}",
            f"{one.held_bytes / _GIB:.1f}",
            f"{one.room_bytes / _GIB:.1f}",
            f"{one.token_s * 1e3:.2f}",
            link,
            f"{hop.token_s * 1e3:.2f}" if hop else "",
        )
    console.print(table)
    found, worst = plan.predict(), find_bottleneck(plan, times)
    for line in (
        f"first token after {found.first_token_s:.2f} s of a prompt of {workload.prompt_tokens} tokens",
        f"{found.tokens_per_s:.2f} tokens/s; {found.speculative_tokens_per_s:.2f} with {found.drafts} drafts a call, of"
        f" which {workload.acceptance:.0%} are right",
        f"{found.total_tokens_per_s:.2f} tokens/s of {workload.sessions} session(s) together, at most"
        f" {found.most_tokens_per_s:.2f} of many: one for every {found.slowest_s * 1e3:.2f} ms of the slowest",
        f"{sum(one.bytes_per_token for one in hops)} bytes a token over {len(hops)} hops, the way back among them",
        f"bottleneck: {worst.what}, {worst.share:.0%} ({worst.seconds * 1e3:.1f} ms), most of it at {worst.where}",
    ):
        console.print(line, soft_wrap=True, highlight=False)


def _show_changes(plan: FleetPlan, console: Console) -> None:
    for name, options in zip(("first", "last"), list_ends(plan), strict=True):
        listed = ", ".join(f"{one.kind} +{max(one.worse_s, 0) * 1e3:.1f} ms" for one in options)
        console.print(f"{name} shard: {listed or 'not compared'}", soft_wrap=True, highlight=False)
    for gain in list_gains(plan):
        console.print(f"{gain.change}: {_compare(gain, plan)}", soft_wrap=True, highlight=False)


def _compare(gain: ChangedPlan, plan: FleetPlan) -> str:
    """What a machine more makes of the plan, and how much more of what the plan is for."""
    before, after = plan.predict(), gain.prediction
    assert after is not None, "one machine more is never too few"
    better = {
        Objective.DECODE: after.tokens_per_s / before.tokens_per_s,
        Objective.THROUGHPUT: after.most_tokens_per_s / before.most_tokens_per_s,
        Objective.FIRST_TOKEN: before.first_token_s / after.first_token_s,
    }[plan.objective]
    return (
        f"{better - 1:+.1%}: {after.tokens_per_s:.2f} tokens/s, first token {after.first_token_s:.2f} s, at most"
        f" {after.most_tokens_per_s:.2f} tokens/s of many"
    )


def _show_outcomes(outcomes: Sequence[ChangedPlan], as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(one) for one in outcomes]))
        return
    table = Table("assumption", "change", "tok/s", "drafts", "first s", "of many", "stages", box=None)
    for one in outcomes:
        found = one.prediction
        numbers = (
            [
                f"{found.tokens_per_s:.2f}",
                f"{found.speculative_tokens_per_s:.2f}",
                f"{found.first_token_s:.2f}",
                f"{found.most_tokens_per_s:.1f}",
                str(one.stages),
            ]
            if found
            else ["does not fit", "", "", "", ""]
        )
        table.add_row(one.assumption, one.change, *numbers)
    Console().print(table)
