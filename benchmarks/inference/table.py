"""The figures for people: tables on a terminal. Measures nothing."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_found(found: dict[str, Any], console: Console) -> None:
    """Print everything measured."""
    settings, machine, peer = found["settings"], found["machine"], found["peer"]
    console.print(
        f"{found['model']['name']}, {settings['shards']} shard(s), {settings['threads']} thread(s) a side, "
        f"{settings['rounds']} alternating rounds; {machine['cpu']}, {machine['cores']} cores, "
        f"load {machine['load_before']} before",
        highlight=False,
        soft_wrap=True,
    )
    if found["items"]:
        console.print(_make_rates(found["items"]))
    for name in found["left_out"]:
        console.print(f"{name.replace('_', ' ')} left out: longer than the model's context", highlight=False)
    if peer["measured"]:
        console.print(
            f"peer: {peer['name']} of llama_cpp {peer['llama_cpp']}, loaded in {peer['load_s']} s", highlight=False
        )
    else:
        console.print(f"peer not measured: {peer['reason']}", highlight=False, markup=False, soft_wrap=True)
    for side, gain in found["parallel_gain"].items():
        console.print(f"{side}: 16 sessions together give {gain} x one session's rate", highlight=False)
    if found["roofline"]:
        _print_roofline(found["roofline"], console)
    if found["memory"]:
        _print_memory(found["memory"], console)


def _make_rates(items: dict[str, Any]) -> Table:
    """Rates as median (least-most); the ratio as that of the medians (of single rounds)."""
    table = Table("tokens/s", "ours", "llama.cpp", "ratio", "same tokens", box=None, pad_edge=False)
    for name, one in items.items():
        peer, ratio, same = "-", "-", "-"
        if one["peer"]:
            peer = _format_runs(one["peer"])
            ratio = f"{one['ratio']['of_medians']:.2f} ({one['ratio']['min']:.2f}-{one['ratio']['max']:.2f})"
            same = f"{one['same_tokens']['leading']} of {one['same_tokens']['of']}"
        table.add_row(name.replace("_", " "), _format_runs(one["ours"]), peer, ratio, same)
    return table


def _format_runs(runs: dict[str, Any]) -> str:
    median, least, most = (f"{runs[one]:.{0 if runs[one] >= 100 else 1}f}" for one in ("median", "min", "max"))
    return f"{median} ({least}-{most})"


def _print_roofline(roofline: dict[str, Any], console: Console) -> None:
    console.print(f"memory reads {roofline['read_gb_per_s']} GB/s with these threads", highlight=False)
    for side in ("ours", "peer"):
        if side in roofline:
            one = roofline[side]
            console.print(
                f"{side}: {one['bytes_per_token'] / 1e6:.1f} MB of weights a token, so at most "
                f"{one['bound_tokens_per_s']} tokens/s; decode reaches {one['share']:.0%}",
                highlight=False,
            )


def _print_memory(memory: dict[str, Any], console: Console) -> None:
    start, end = memory["layers"]
    held = f"MiB, layers [{start}, {end}), KV of {memory['positions']:,}"
    table = Table(held, "resident", "proportional", "private", box=None, pad_edge=False)
    moments = {"before": "before the load", "loaded": "loaded", "prefilled": f"after {memory['prefill_rows']} rows"}
    for moment, name in moments.items():
        one = memory["mib"][moment]
        table.add_row(name, str(one["rss"]), str(one["pss"]), str(one["uss"]))
    console.print(table)
    load = memory["load"]
    console.print(
        f"load: {load['cached_s']} s from the page cache, {load['cold_s']} s from disk with hashing", highlight=False
    )
