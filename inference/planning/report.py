"""What a plan says to a person: memory, bytes and seconds by stage and hop, and the bottleneck by name."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

from inference.planning.cost import compute_head_speed, compute_speed
from inference.planning.fleet import FleetLink
from inference.planning.plan import FleetPlan
from inference.planning.predict import PathTimes
from inference.planning.solve import PlacedRange
from inference.planning.workload import Objective, split_chunk
from proto_specs.types.manifest import TOKEN_BYTES

READING, COMPUTING, CALLING = "memory bandwidth", "arithmetic", "calls of layers"
OPENING = "opening of a request"
DELAY, RATE, SLOWEST = "delay of links", "rate of links", "slowest of the path"


@dataclass(frozen=True)
class Term:
    """Seconds that one thing takes at one place."""

    what: str
    where: str
    seconds: float


@dataclass(frozen=True)
class Bottleneck:
    """What takes most: `share` of the time is `what`, most of it `where`."""

    what: str
    where: str
    seconds: float
    share: float


@dataclass(frozen=True)
class StageReport:
    """A stage: bytes it holds of those it may, and seconds of a token and of a chunk of the prompt."""

    machine: str
    start: int
    end: int
    held_bytes: int
    room_bytes: int
    memory_bytes: int
    token_s: float
    chunk_s: float


@dataclass(frozen=True)
class HopReport:
    """A hop of the ring; the last one takes tokens back to the first stage."""

    source: str
    target: str
    bytes_per_token: int
    delay_s: float
    mbit_per_s: float
    token_s: float


def list_stages(plan: FleetPlan, times: PathTimes) -> list[StageReport]:
    """Its stages in path order."""
    return [
        StageReport(
            machine=one.name,
            start=one.start,
            end=one.end,
            held_bytes=one.held_bytes,
            room_bytes=one.room_bytes,
            memory_bytes=int(one.kind.memory_bytes),
            token_s=taken.pass_s[0],
            chunk_s=taken.chunk_s,
        )
        for one, taken in zip(plan.stages, times.stages, strict=True)
    ]


def list_hops(plan: FleetPlan) -> list[HopReport]:
    """Its hops in path order; none of a single stage."""
    names = [one.name for one in plan.stages]
    hops = []
    for place, link in enumerate(plan.links):
        is_back = place == len(names) - 1
        size = TOKEN_BYTES if is_back else plan.shape.row_bytes
        target = names[0] if is_back else names[place + 1]
        rate = link.bytes_per_s * 8 / 1e6
        hops.append(HopReport(names[place], target, size, link.delay_s, rate, link.compute_seconds(size)))
    return hops


def find_bottleneck(plan: FleetPlan, times: PathTimes) -> Bottleneck:
    """What the plan's objective suffers from most."""
    if plan.objective is Objective.THROUGHPUT:
        return _find_slowest(plan, times)
    terms = list_terms(plan, times)
    whole = sum(one.seconds for one in terms)
    totals: dict[str, float] = {}
    for one in terms:
        totals[one.what] = totals.get(one.what, 0.0) + one.seconds
    what = max(totals, key=lambda name: totals[name])
    worst = max((one for one in terms if one.what == what), key=lambda one: one.seconds)
    return Bottleneck(what, worst.where, totals[what], totals[what] / whole)


def _find_slowest(plan: FleetPlan, times: PathTimes) -> Bottleneck:
    names = [one.name for one in plan.stages]
    stages = [Term("stage", name, one.pass_s[0]) for name, one in zip(names, times.stages, strict=True)]
    sizes = [
        Term(RATE, f"{source} -> {target}", plan.shape.row_bytes / link.bytes_per_s)
        for (source, target), link in zip(itertools.pairwise(names), times.hops, strict=True)
    ]
    worst = max([*stages, *sizes], key=lambda one: one.seconds)
    what = worst.what
    if what == "stage":
        place = names.index(worst.where)
        parts = _split_stage(plan, plan.placement[place], worst.where, 1, plan.workload.decode_context, 1)
        what = max(parts, key=lambda one: one.seconds).what
    return Bottleneck(what, worst.where, worst.seconds, 1.0)


def list_terms(plan: FleetPlan, times: PathTimes) -> list[Term]:
    """All that a token takes, or, of a plan for the first token, the wait for it: they add up to the prediction."""
    is_first = plan.objective is Objective.FIRST_TOKEN
    chunks, chunk_rows = plan.workload.compute_chunks(len(plan.placement))
    rows, context = (chunk_rows, plan.workload.prefill_context) if is_first else (1.0, plan.workload.decode_context)
    names = [one.name for one in plan.stages]
    terms: list[Term] = []
    for choice, name in zip(plan.placement, names, strict=True):
        # The head runs one row, in the last of a chunk's calls.
        *firsts, last = split_chunk(rows, choice.start == 0)
        for one in firsts:
            terms += _split_stage(plan, choice, name, one, context, 0)
        terms += _split_stage(plan, choice, name, last, context, 1)
    for (source, target), link in zip(itertools.pairwise(names), times.hops, strict=True):
        terms += _split_link(link, f"{source} -> {target}", rows * plan.shape.row_bytes)
    if not is_first:
        return terms + (_split_link(times.back, f"{names[-1]} -> {names[0]}", TOKEN_BYTES) if times.back else [])
    terms.append(Term(OPENING, "client", times.opening_s))
    terms += _split_link(times.entry, f"client -> {names[0]}", plan.workload.prompt_tokens * TOKEN_BYTES)
    terms += _split_link(times.leave, f"{names[-1]} -> client", TOKEN_BYTES)
    slowest = [Term(SLOWEST, name, one.chunk_s * (chunks - 1)) for name, one in zip(names, times.stages, strict=True)]
    slowest += [
        Term(SLOWEST, f"{source} -> {target}", rows * plan.shape.row_bytes / link.bytes_per_s * (chunks - 1))
        for (source, target), link in zip(itertools.pairwise(names), times.hops, strict=True)
    ]
    return [*terms, max(slowest, key=lambda one: one.seconds)]


def _split_stage(
    plan: FleetPlan, choice: PlacedRange, name: str, rows: float, context: float, head_rows: float
) -> Iterable[Term]:
    kind = plan.fleet.kinds[choice.kind]
    seconds = {READING: 0.0, COMPUTING: 0.0, CALLING: plan.fleet.stage_s}
    speed = compute_speed(kind, plan.shape)
    calls = [(speed, one, rows, context) for one in plan.shape.layers[choice.start : choice.end]]
    if head_rows and choice.end == len(plan.shape.layers):
        calls.append((compute_head_speed(kind, plan.shape), plan.shape.head, head_rows, 0))
    for reached, layer, count, seen in calls:
        reading, computing = reached.split_seconds(layer, count, seen)
        seconds[READING] += reading
        seconds[COMPUTING] += computing
        seconds[CALLING] += reached.layer_s
    return [Term(what, name, one) for what, one in seconds.items()]


def _split_link(link: FleetLink, name: str, size: float) -> list[Term]:
    return [Term(DELAY, name, link.delay_s), Term(RATE, name, size / link.bytes_per_s)]
