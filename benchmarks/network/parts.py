"""What is measured of a network of processes: a hop, a path of three, and a path of two beside Petals."""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import trio

from benchmarks.inference.lines import Child, start_child
from benchmarks.network.client import compute_rate
from benchmarks.network.delays import POSITIONS, OpenPath, open_path
from inference.model.store import ShardStore
from node.client.link import FrameLink
from node.p2p.host import open_host
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.types.manifest import WireDtype
from proto_specs.types.wire import STAGE_PROTOCOL, Frame, Rows

STAGES = 3
SESSIONS = (1, 4)
TOKENS = 96
HOPS = 1_000
WARM_HOPS = 100
HOP_MS_MAX = 0.35
RATIO_MIN = {1: 0.90, 4: 0.95}
PETALS_STAGES = 2
FASTER_MIN = {"exact": 4.0, "fast": 6.0}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Measured:
    """A stored model, and prompts of one length."""

    models: Path
    model: bytes
    prompts: tuple[tuple[int, ...], ...]

    def cut(self, stages: int) -> list[int]:
        """Even shares of the layers."""
        layers = ShardStore(self.models).load_manifest(self.model).architecture.layers
        return [layers * at // stages for at in range(stages + 1)]


def measure_hop(measured: Measured, rounds: int, say: Say) -> dict[str, Any]:
    """Half of the way there and back of one token's hidden states over a link of the product, between two processes."""
    manifest = ShardStore(measured.models).load_manifest(measured.model)
    size = manifest.architecture.hidden * WireDtype.FP32.item_bytes  # the widest it may be sent as
    frame = Rows(bytes(32), 1, 0, 1, os.urandom(size))
    medians = []
    with start_child("benchmarks.network.echo") as echo:
        address = echo.call("listen")
        for _ in range(rounds):
            taken_s = trio.run(_bounce, address, frame)
            medians.append(1e3 * statistics.median(taken_s) / 2)
            say(f"hop of {size} bytes: {medians[-1]:.3f} ms")
    hop_ms = statistics.median(medians)
    turn = _measure_turn(measured, rounds, say)
    return {
        "bytes": size,
        "hop_ms": round(hop_ms, 4),
        **turn,
        "goal_ms": HOP_MS_MAX,
        "holds": turn["turn_ms"] <= HOP_MS_MAX,
    }


def _measure_turn(measured: Measured, rounds: int, say: Say) -> dict[str, float]:
    """What a stage takes of each token beside its layers: all of a path's work but those, per stage.

    That is the hop as a user meets it: reading, checking, the hand-over to the computing thread and back, the protocol,
    writing.
    """
    turns_ms, cpus_ms = [], []
    with open_path(measured.models, measured.model, measured.cut(STAGES), is_empty=True) as path:
        path.client.ask(measured.prompts[:1], WARM_HOPS)
        for _ in range(rounds):
            before_s = sum(path.read_cpu_s())
            (answer,) = path.client.ask(measured.prompts[:1], HOPS)
            cpus_ms.append(1e3 * (sum(path.read_cpu_s()) - before_s) / HOPS / STAGES)
            gaps_s = [after - before for before, after in itertools.pairwise(answer.times_s)]
            turns_ms.append(1e3 * statistics.median(gaps_s) / STAGES)
            say(f"a stage beside its layers: {turns_ms[-1]:.3f} ms, {cpus_ms[-1]:.3f} ms of a processor")
    return {"turn_ms": round(statistics.median(turns_ms), 4), "turn_cpu_ms": round(statistics.median(cpus_ms), 4)}


async def _bounce(address: str, frame: Frame) -> list[float]:
    taken_s: list[float] = []
    async with open_host(os.urandom(32), []) as host, trio.open_nursery() as nursery:
        stream = await host.open_stream(address, STAGE_PROTOCOL, max_frame_bytes=FRAME_BYTES_MAX)
        link = FrameLink(stream, stream.peer_id)
        nursery.start_soon(link.run)
        for _ in range(WARM_HOPS + HOPS):
            started_s = time.perf_counter()
            link.send(frame)
            await link.receive()
            taken_s.append(time.perf_counter() - started_s)
        nursery.cancel_scope.cancel()
    return taken_s[WARM_HOPS:]


def measure_pipeline(measured: Measured, rounds: int, say: Say) -> dict[str, Any]:
    """Decode through a process for each of three shards, and through the same shards in one process, by turns."""
    cuts = measured.cut(STAGES)
    found: dict[str, Any] = {}
    with open_path(measured.models, measured.model, cuts) as path, start_child("benchmarks.inference.ours") as one:
        _load(one, measured, cuts)
        path.client.ask(measured.prompts[:1], 8)
        for sessions in SESSIONS:
            runs = [_compare(path, one, measured.prompts[:sessions], say) for _ in range(rounds)]
            ratio = statistics.median(run["ratio"] for run in runs)
            found[f"sessions_{sessions}"] = {
                **{name: round(statistics.median(run[name] for run in runs), 3) for name in runs[0]},
                "goal": RATIO_MIN[sessions],
                "holds": ratio >= RATIO_MIN[sessions],
            }
    return found


def _compare(path: OpenPath, one: Child, prompts: Sequence[Sequence[int]], say: Say) -> dict[str, float]:
    """A run of each; processor time counts the prompt too, on both sides."""
    counted = TOKENS * len(prompts)
    before_s = sum(path.read_cpu_s())
    answers = path.client.ask(prompts, TOKENS)
    path_cpu_s = sum(path.read_cpu_s()) - before_s
    before_s = read_cpu_s(one.pid)
    alone = one.call("parallel", prompts=[list(prompt) for prompt in prompts], tokens=TOKENS - 1)
    one_cpu_s = read_cpu_s(one.pid) - before_s
    if [answer.tokens[1:] for answer in answers] != alone["tokens"]:
        say("the answers differ")
    run = {
        "path_tokens_per_s": compute_rate(answers),
        "one_process_tokens_per_s": (TOKENS - 1) * len(prompts) / alone["seconds"],
        "path_cpu_ms_per_token": 1e3 * path_cpu_s / counted,
        "one_process_cpu_ms_per_token": 1e3 * one_cpu_s / counted,
    }
    run["ratio"] = run["path_tokens_per_s"] / run["one_process_tokens_per_s"]
    run["cpu_ratio"] = run["one_process_cpu_ms_per_token"] / run["path_cpu_ms_per_token"]
    say(f"{len(prompts)} sessions: " + ", ".join(f"{name} {value:.2f}" for name, value in run.items()))
    return run


def read_cpu_s(pid: int) -> float:
    """Processor seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _load(one: Child, measured: Measured, cuts: Sequence[int]) -> None:
    one.call("open_store", models=str(measured.models), model=measured.model.hex())
    one.call("load", cuts=list(cuts), positions=POSITIONS, threads=1, verify=False)
