"""A path of two beside Petals with two servers: the same model, one thread each, by turns on this machine."""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.inference.lines import Child, start_child
from benchmarks.network.client import compute_rate
from benchmarks.network.delays import OpenPath, open_path
from benchmarks.network.parts import FASTER_MIN, PETALS_STAGES, TOKENS, Measured, Say
from benchmarks.network.petals_model import write_sample
from inference.model.fetch import cache_dir
from proto_specs.errors import MyelinError

PREFIX = "sample"
START_S = 180.0
END_S = 10.0
POLL_S = 0.5
WARM_TOKENS = 8


class PetalsDidNotStart(MyelinError):
    """Petals is not there or did not start. The message says what is missing, or what it said last."""


def measure_petals(
    measured: Measured, classes: dict[str, bytes], rounds: int, interpreter: str | None, say: Say
) -> dict[str, Any]:
    """Tokens a second of Petals and of our service classes (their models' ids), one session each, by turns.

    Raises PetalsDidNotStart, CallFailed.
    """
    if interpreter is None:
        raise PetalsDidNotStart("name an interpreter that has petals 2.2.0.post1: --petals PYTHON")
    directory = cache_dir() / "petals-sample"
    write_sample(directory)
    prompt = measured.prompts[0]
    rates: dict[str, list[float]] = {name: [] for name in ("petals", *classes)}
    with ExitStack() as stack:
        peer = stack.enter_context(_open_petals(interpreter, directory, measured.cut(PETALS_STAGES)))
        cuts = measured.cut(PETALS_STAGES)
        paths = {name: stack.enter_context(open_path(measured.models, model, cuts)) for name, model in classes.items()}
        peer.call("decode", prompt=list(prompt), tokens=WARM_TOKENS)
        for path in paths.values():
            path.client.ask([prompt], WARM_TOKENS)
        for _ in range(rounds):
            answer = peer.call("decode", prompt=list(prompt), tokens=TOKENS)
            rates["petals"].append((TOKENS - 1) / answer["seconds"])
            tokens = {name: _run(path, prompt, rates[name]) for name, path in paths.items()}
            if "exact" in tokens and tokens["exact"] != answer["tokens"]:
                say("the answers differ")
            say(", ".join(f"{name} {each[-1]:.1f} tok/s" for name, each in rates.items()))
        versions = peer.call("describe")
    found: dict[str, Any] = {"versions": versions}
    for name, each in rates.items():
        found[name] = {"tokens_per_s": round(statistics.median(each), 2)}
        if name in FASTER_MIN:
            ratio = statistics.median(ours / theirs for ours, theirs in zip(each, rates["petals"], strict=True))
            found[name] |= {"ratio": round(ratio, 2), "goal": FASTER_MIN[name], "holds": ratio >= FASTER_MIN[name]}
    return found


def _run(path: OpenPath, prompt: tuple[int, ...], rates: list[float]) -> list[int]:
    answers = path.client.ask([prompt], TOKENS)
    rates.append(compute_rate(answers))
    return answers[0].tokens


@contextmanager
def _open_petals(interpreter: str, directory: Path, cuts: list[int]) -> Iterator[Child]:
    """A DHT, a server for each share of the layers, and a client connected to them."""
    with ExitStack() as stack:
        base = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="myelin-petals-")))
        port = _find_port()
        dht_argv = [interpreter, "-m", "petals.cli.run_dht", "--host_maddrs", f"/ip4/127.0.0.1/tcp/{port}"]
        dht = stack.enter_context(_open_process(dht_argv, base / "dht.log"))
        peer = _wait_for(dht, base / "dht.log", r"/ip4/127\.0\.0\.1/tcp/\d+/p2p/\w+")
        for number, (start, end) in enumerate(itertools.pairwise(cuts)):
            argv = [interpreter, "-m", "petals.cli.run_server", str(directory), "--device", "cpu"]
            argv += ["--torch_dtype", "float32", "--throughput", "1", "--block_indices", f"{start}:{end}"]
            argv += ["--dht_prefix", PREFIX, "--skip_reachability_check", "--initial_peers", peer]
            argv += ["--host_maddrs", f"/ip4/127.0.0.1/tcp/{_find_port()}", "--num_handlers", "1"]
            log = base / f"server-{number}.log"
            server = stack.enter_context(_open_process(argv, log))
            _wait_for(server, log, r"Started")
        client = stack.enter_context(start_child("benchmarks.network.petals_side", interpreter))
        stack.callback(os.killpg, client.pid, signal.SIGKILL)  # with the processes it forks, which hold its output
        client.call("connect", directory=str(directory), prefix=PREFIX, peers=[peer])
        yield client


@contextmanager
def _open_process(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with log.open("wb") as written:
        process = subprocess.Popen(argv, stdout=written, stderr=written, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGTERM)  # its own session: the daemon beside it ends too
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], log: Path, pattern: str) -> str:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s and process.poll() is None:
        found = re.search(pattern, log.read_text("utf-8", "replace"))
        if found is not None:
            return found.group()
        time.sleep(POLL_S)
    said = log.read_text("utf-8", "replace").strip().splitlines()[-3:]
    raise PetalsDidNotStart(f"petals is not up within {START_S:.0f} s: {' | '.join(said)}")


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
