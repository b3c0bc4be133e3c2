"""One whole run: both sides started, items in alternation, then roofline and memory; everything as JSON."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.inference.chosen import ChosenModel
from benchmarks.inference.lines import CallFailed, Child, start_child
from benchmarks.inference.memory import count_starts, measure_memory
from benchmarks.inference.roofline import compute_share, count_file_bytes, measure_bandwidth
from benchmarks.inference.rounds import PARALLEL_CONTEXT, SESSIONS, Item, Say, Series, make_items, measure
from benchmarks.machine import describe_machine
from node.local_api.methods.chain import NODE_VERSION
from proto_specs.errors import MyelinError

PEER_ADVICE = "pip install llama-cpp-python==0.3.36, then --llama PYTHON"
TEXT = (
    "A river town kept two clocks. The one on the church struck when the sexton remembered it, and the one at the "
    "harbour when the tide turned, so that a stranger who asked for the time was given a choice. In 1874 the council "
    "voted 9 to 4 to keep both: the first for weddings, they wrote, since nobody wants to be hurried, and the second "
    "for debts. When the railway came, its engineer laid his watch on the table and said that from Monday there would "
    "be one hour for everybody. They listened, thanked him, and put up a third clock. "
)
"""What prompts are cut from; it repeats, so that the likeliest token is a plain choice and right engines agree."""


class NotMeasured(MyelinError):
    """A measured process refused or ended. The message is its reason."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to measure, and how. `shards` is of our side alone; `llama` is the peer's interpreter, if one is named."""

    groups: tuple[str, ...]
    rounds: int
    threads: int
    tokens: int
    shards: int
    llama: str | None


@dataclass(frozen=True, slots=True)
class Peer:
    """The peer as it is reported, and its process where it is measured."""

    about: dict[str, Any]
    child: Child | None = None


def measure_all(chosen: ChosenModel, wanted: Wanted, console: Console) -> dict[str, Any]:
    """Everything wanted. Raises NotMeasured when our side fails, or a peer that was named or has begun."""
    items = make_items(wanted.groups, wanted.tokens)
    starts = count_starts(wanted.rounds) if "memory" in wanted.groups else 0
    load_before = round(os.getloadavg()[0], 2)
    peer, memory = Peer({"measured": False, "reason": "no rates were asked for"}), None
    series: list[Series] = []
    roofline: dict[str, Any] | None = None
    try:
        with _show_progress(len(items) * wanted.rounds + bool(items) + starts, console) as say:
            with start_child("benchmarks.inference.ours") as ours:
                versions = ours.call("describe")
                about = ours.call("open_store", models=str(chosen.models), model=chosen.id_hex)
                fitting = [one for one in items if one.positions <= about["context_max"]]
                if fitting:
                    peer, series = _measure_rates(ours, about, fitting, chosen, wanted, say)
            if series:
                say("what memory allows")
                roofline = _make_roofline(series, about, chosen.file, wanted.threads)
            if starts:
                memory = measure_memory(chosen.models, chosen.id_hex, about, wanted.threads, starts, say)
    except CallFailed as error:
        raise NotMeasured(str(error)) from error
    return {
        "machine": {**describe_machine(), "load_before": load_before},
        "versions": {"myelin": NODE_VERSION, **versions},
        "model": {"name": chosen.name, "id": f"0x{chosen.id_hex}", "file": chosen.file.name if chosen.file else None},
        "settings": {name: getattr(wanted, name) for name in ("threads", "shards", "rounds", "tokens")},
        "peer": peer.about,
        "items": {one.item.name: one.to_json() for one in series},
        "left_out": [one.name for one in items if one not in fitting],
        "parallel_gain": _compute_gains(series),
        "roofline": roofline,
        "memory": memory,
    }


def _measure_rates(
    ours: Child, about: dict[str, Any], items: Sequence[Item], chosen: ChosenModel, wanted: Wanted, say: Say
) -> tuple[Peer, list[Series]]:
    """Starts the peer, loads both sides, and measures the items."""
    layers, shards = about["layers"], wanted.shards
    if shards > layers:
        raise NotMeasured(f"{chosen.name} has {layers} layers: --shards is at most that, not {shards}")
    with contextlib.ExitStack() as stack:
        peer = _start_peer(stack, chosen.file, wanted)
        cuts = [layers * place // shards for place in range(shards + 1)]
        positions = max(one.positions * one.sessions for one in items)
        ours.call("load", cuts=cuts, positions=positions, threads=wanted.threads, verify=False)
        text = ours.call("encode", text=TEXT)
        return peer, list(measure(items, ours, peer.child, text, wanted.rounds, say))


def _start_peer(stack: contextlib.ExitStack, file: Path | None, wanted: Wanted) -> Peer:
    """The peer with the file loaded, or why it is not measured. Raises CallFailed for a named interpreter."""
    if file is None:
        return Peer({"measured": False, "reason": "llama.cpp reads GGUF files: name the model by its file"})
    child = stack.enter_context(start_child("benchmarks.inference.peer", wanted.llama or sys.executable))
    try:
        about = child.call("describe")
    except CallFailed as error:
        if wanted.llama is not None:
            raise CallFailed(f"--llama {wanted.llama} has no llama_cpp ({error}): {PEER_ADVICE}") from error
        return Peer({"measured": False, "reason": PEER_ADVICE})
    try:
        loaded = child.call("load", file=str(file.absolute()), threads=wanted.threads)
    except CallFailed as error:
        return Peer({"measured": False, "reason": str(error)})
    load_s = round(loaded["seconds"], 3)
    return Peer({"measured": True, "name": "llama.cpp", **about, "load_s": load_s}, child)


def _compute_gains(series: Sequence[Series]) -> dict[str, float]:
    """The rate of sessions together over that of one session, for each side that was measured."""
    by_name = {one.item.name: one for one in series}
    together, alone = by_name.get(f"parallel_{SESSIONS}"), by_name.get(f"decode_{PARALLEL_CONTEXT}")
    if together is None or alone is None:
        return {}
    gains = {"ours": together.our_median / alone.our_median}
    if together.peer:
        gains["peer"] = together.peer_median / alone.peer_median
    return {side: round(gain, 2) for side, gain in gains.items()}


def _make_roofline(
    series: Sequence[Series], about: dict[str, Any], file: Path | None, threads: int
) -> dict[str, Any] | None:
    """What memory allows one session's decode, and how much of it is reached; None when that was not measured."""
    decode = next((one for one in series if one.item.name == f"decode_{PARALLEL_CONTEXT}"), None)
    if decode is None:
        return None
    bandwidth = measure_bandwidth(threads)
    found: dict[str, Any] = {"read_gb_per_s": round(bandwidth / 1e9, 1), "item": decode.item.name}
    found["ours"] = compute_share(decode.our_median, about["weight_bytes_per_token"], bandwidth)
    if decode.peer and file is not None:
        found["peer"] = compute_share(decode.peer_median, count_file_bytes(file), bandwidth)
    return found


@contextlib.contextmanager
def _show_progress(steps: int, console: Console) -> Iterator[Callable[[str], None]]:
    """A bar of the steps on a terminal, else a line for each."""
    columns = (TextColumn("[bold]{task.description}[/bold]"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        task, done = progress.add_task("starting", total=steps), 0

        def say(text: str) -> None:
            nonlocal done
            progress.update(task, description=text, completed=done)
            done += 1
            if not console.is_terminal:
                print(text, file=sys.stderr, flush=True)

        yield say
