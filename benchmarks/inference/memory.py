"""Memory and start of a worker's shard: fresh processes that hold the middle third of a model's layers."""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from typing import Any

from benchmarks.inference.lines import start_child
from benchmarks.inference.rounds import PREFILL_TOKENS, Say

POSITIONS = 4_096
STARTS_MAX = 3
_FIELDS = {"rss": ("Rss",), "pss": ("Pss",), "uss": ("Private_Clean", "Private_Dirty")}


def count_starts(rounds: int) -> int:
    """Fresh starts for so many rounds: memory differs little from start to start."""
    return min(rounds, STARTS_MAX)


def measure_memory(
    models: Path, model: str, about: dict[str, Any], threads: int, starts: int, say: Say
) -> dict[str, Any]:
    """Resident memory before the load, after it and after a prefill, and the seconds of loads; medians of fresh starts.

    `cached_s` is the load alone of weights that are in the page cache; `cold_s` is what the start of a worker takes:
    the weights come from disk, are hashed, and load. `about` is what the engine says of the stored model.
    """
    layers, positions = about["layers"], min(POSITIONS, about["context_max"])
    cuts = [layers // 3, 2 * layers // 3] if layers >= 3 else [0, layers]
    rows = min(PREFILL_TOKENS, positions)
    runs = []
    for number in range(starts):
        say(f"memory of layers [{cuts[0]}, {cuts[1]}), start {number + 1} of {starts}")
        cold_s = _load_cold(models, model, cuts, threads)
        with start_child("benchmarks.inference.ours") as child:
            child.call("open_store", models=str(models), model=model)
            run: dict[str, Any] = {"before": read_memory(child.pid)}
            loaded = child.call("load", cuts=cuts, positions=positions, threads=threads, verify=False)
            child.call("hold", positions=positions)
            run["loaded"] = read_memory(child.pid)
            child.call("extend_rows", count=rows)
            run["prefilled"] = read_memory(child.pid)
        runs.append({**run, "cached_s": loaded["seconds"], "cold_s": cold_s})
    moments = {
        moment: {kind: round(statistics.median(one[moment][kind] for one in runs), 1) for kind in _FIELDS}
        for moment in ("before", "loaded", "prefilled")
    }
    return {
        "layers": cuts,
        "positions": positions,
        "prefill_rows": rows,
        "starts": starts,
        "mib": moments,
        "load": {kind: round(statistics.median(one[kind] for one in runs), 3) for kind in ("cached_s", "cold_s")},
    }


def read_memory(pid: int) -> dict[str, float]:
    """MiB of a process: resident, its share of what is shared, and what is its alone."""
    found: dict[str, int] = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0])
    return {kind: round(sum(found[one] for one in names) / 1024, 1) for kind, names in _FIELDS.items()}


def _load_cold(models: Path, model: str, cuts: list[int], threads: int) -> float:
    for file in (models / model).iterdir():
        handle = os.open(file, os.O_RDONLY)
        try:
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
    with start_child("benchmarks.inference.ours") as child:
        child.call("open_store", models=str(models), model=model)
        loaded = child.call("load", cuts=cuts, positions=1, threads=threads, verify=True)
    return float(loaded["seconds"])
