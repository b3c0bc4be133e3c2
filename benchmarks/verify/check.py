"""What one check costs a verifier: its time over that of the prefill alone, its memory over that of one shard.

Fresh processes: nothing of an earlier shard is in memory. `python -m benchmarks.verify.check` prints the figures.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inference.memory import read_memory
from inference.engine.engine import load_session
from inference.engine.golden import read_golden
from inference.engine.rows import Rows
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import StoreError
from inference.model.fetch import cache_dir
from inference.model.store import ShardStore
from inference.serving.opening import AuthenticOpening
from node.verifier.judge import Judge
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.manifest import Manifest, WireDtype
from proto_specs.types.request import Order, PathStage, pack_tokens
from proto_specs.types.sampling import SamplingParams

POSITIONS = 512
STAGES = 3
ROUNDS = 9
SEED = bytes(range(32))


def measure_check(models: Path | None = None, model: str | None = None, threads: int = 1) -> dict[str, Any]:
    """A model in STAGES shards, the first imported one unless it is named: ratios, and what they are ratios of.

    `time`: per stage, median CPU seconds of a prefill over POSITIONS and of a check of the last window, and the largest
    of their ratios. `memory`: MiB resident in a verifier that has judged every shard in turn, and in a process that
    holds the largest shard and has run it once.
    """
    where = cache_dir() / "models" if models is None else models
    name = _find_model(where) if model is None else model
    found = [_run_child(where, name, "time", stage, threads) for stage in range(STAGES)]
    judged = _run_child(where, name, "judge", 0, threads)
    held = [_run_child(where, name, "hold", stage, threads)["mib"]["rss"] for stage in range(STAGES)]
    return {
        "model": name,
        "positions": POSITIONS,
        "stages": STAGES,
        "time": {"by_stage": found, "ratio": round(max(one["ratio"] for one in found), 4)},
        "memory": {
            "verifier_mib": judged["mib"]["rss"],
            "verifier_peak_mib": judged["peak_mib"],
            "shards_mib": held,
            "ratio": round(judged["mib"]["rss"] / max(held), 3),
            "peak_ratio": round(judged["peak_mib"] / max(held), 3),
        },
    }


def _find_model(models: Path) -> str:
    store = ShardStore(models)
    for one in store.list_models():
        try:
            manifest = store.load_manifest(one)
        except StoreError:
            continue  # of another version
        if manifest.ranges and manifest.wire_dtype == WireDtype.BF16:
            return one.hex()
    raise FileNotFoundError(f"no calibrated model in {models}: run `myelin model import` first")


def _run_child(models: Path, model: str, task: str, stage: int, threads: int) -> dict[str, Any]:
    argv = [sys.executable, "-m", "benchmarks.verify.check", str(models), model, task, str(stage), str(threads)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _main(argv: list[str]) -> dict[str, Any]:
    if not argv:
        return measure_check()
    models, model, task, stage, threads = Path(argv[0]), bytes.fromhex(argv[1]), argv[2], int(argv[3]), int(argv[4])
    store = ShardStore(models)
    manifest = store.load_manifest(model)
    layers = [_cut(manifest, one) for one in range(STAGES)]
    if task == "judge":
        judge = Judge(store)
        for one in layers:
            judge.judge(_make_opening(store, model, manifest, one, None), model, manifest, one, SEED)
        return _measure_memory()
    start, end = layers[stage]
    session = load_session(store, model, start, end, threads)
    inputs = _make_inputs(store, model, manifest, start)
    output = session.run(session.open_kv(POSITIONS), inputs).hidden
    if task == "hold":
        return _measure_memory()
    judge = Judge(store)
    opening = _make_opening(store, model, manifest, (start, end), output[-WINDOW_POSITIONS:])
    assert judge.judge(opening, model, manifest, (start, end), SEED).outcome == 0, "honest rows pass"
    prefill, check = [], []
    for _ in range(ROUNDS):  # in turn: what befalls one befalls the other
        prefill.append(_time(lambda: session.run(session.open_kv(POSITIONS), inputs)))
        check.append(_time(lambda: judge.judge(opening, model, manifest, (start, end), SEED)))
    pairs = [one / other for one, other in zip(check, prefill, strict=True)]
    return {
        "layers": [start, end],
        "prefill_s": round(statistics.median(prefill), 4),
        "check_s": round(statistics.median(check), 4),
        "ratio": round(statistics.median(pairs), 4),
    }


def _cut(manifest: Manifest, stage: int) -> tuple[int, int]:
    layers = manifest.architecture.layers
    return stage * layers // STAGES, (stage + 1) * layers // STAGES


def _make_inputs(store: ShardStore, model: bytes, manifest: Manifest, start: int) -> Rows:
    """Golden rows over and over: of the size that rows of this boundary have."""
    golden = read_golden(store, model, manifest, start)
    repeated: Rows = np.concatenate([golden] * (POSITIONS // len(golden)))
    if not start:
        return repeated
    wire, width = WireDtype(manifest.wire_dtype), manifest.architecture.hidden
    return decode_rows(encode_rows(repeated.astype(np.float32, copy=False), wire), wire, width)


def _make_opening(
    store: ShardStore, model: bytes, manifest: Manifest, layers: tuple[int, int], output: Any
) -> AuthenticOpening:
    """A window without sampled tokens; without `output` one whose claim is its input, for memory alone."""
    wire, hidden = WireDtype(manifest.wire_dtype), manifest.architecture.hidden
    inputs = _make_inputs(store, model, manifest, layers[0])
    encoded = encode_rows(inputs.astype(np.float32), wire) if layers[0] else pack_tokens(inputs.tolist())
    claimed = np.ones((WINDOW_POSITIONS, hidden), np.float32) if output is None else output
    path = (PathStage(bytes(32), 0, manifest.architecture.layers, 1, 1),)
    rules = SamplingParams(0, 0, 1000, 0)
    sizes = POSITIONS + 1, 1
    order = Order(ZERO_HASH, ZERO_HASH, 0, 0, 1, model, manifest.service_class, ZERO_HASH, *sizes, rules, path)
    start = POSITIONS - WINDOW_POSITIONS
    return AuthenticOpening(order, encoded, POSITIONS, start, encode_rows(claimed, wire), (), POSITIONS)


def _measure_memory() -> dict[str, Any]:
    peak = next(
        int(line.split()[1]) for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return {"mib": read_memory(os.getpid()), "peak_mib": round(peak / 1024, 1)}


def _time(work: Callable[[], object]) -> float:
    began = time.process_time()  # what else the machine does is not counted
    work()
    return time.process_time() - began


if __name__ == "__main__":
    print(json.dumps(_main(sys.argv[1:])))
