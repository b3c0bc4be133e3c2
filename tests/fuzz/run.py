"""A seeded fuzz run over all targets in two processes: `python -m tests.fuzz.run --cases 1000000`.

A chunk of cases starts from a fresh target and its own seed, so that any case replays alone:
`python -m tests.fuzz.run --seed 1 --replay pool/17/203`. Exits 1 when anything was found, and prints that command.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import random
import resource
import sys
import tempfile
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from tests.determinism.sealed import derive_seed
from tests.fuzz.bodies import RpcTarget
from tests.fuzz.scene import MOMENTS, Scene
from tests.fuzz.targets import BlockTarget, DecodeTarget, ExecuteTarget, PoolTarget, Target

CHUNK_CASES = 500
CASE_CPU_S_MAX = 2.0
CASE_BYTES_MAX = 64 << 20
"""Memory one case may take at its peak: 8 times the largest message."""
GROWTH_BYTES_MAX = 256 << 20
"""Memory a process may grow by over the run, after its first chunk of each target."""
TRACED_CASES = 40
FINDINGS_MAX = 20

SHARES = {"decode": 40, "pool": 16, "execute": 20, "block": 5, "rpc": 19}
"""Of a hundred cases, how many each target gets."""


@dataclass(slots=True)
class Report:
    """What became of some cases."""

    cases: int = 0
    cpu_s: float = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[str, str]] = field(default_factory=list)
    slowest_s: float = 0
    slowest: str = ""
    peak_bytes: int = 0
    peak: str = ""
    resident_bytes: int = 0

    def add(self, other: Report) -> None:
        """Take in another report."""
        self.cases += other.cases
        self.cpu_s += other.cpu_s
        self.outcomes += other.outcomes
        self.findings += other.findings
        if other.slowest_s > self.slowest_s:
            self.slowest_s, self.slowest = other.slowest_s, other.slowest
        if other.peak_bytes > self.peak_bytes:
            self.peak_bytes, self.peak = other.peak_bytes, other.peak
        self.resident_bytes = max(self.resident_bytes, other.resident_bytes)


def make_target(name: str, scene: Scene, chunk: int) -> Target:
    """A fresh target for a chunk."""
    match name:
        case "decode":
            return DecodeTarget(scene)
        case "pool":
            return PoolTarget(scene)
        case "execute":
            return ExecuteTarget(scene, MOMENTS[chunk % len(MOMENTS)])
        case "block":
            return BlockTarget(scene)
        case "rpc":
            return RpcTarget(scene)
    raise ValueError(f"there is no target {name}")


def run_chunk(scene: Scene, seed: int, name: str, chunk: int, cases: int) -> Report:
    """Cases 0 to `cases` of a chunk. A finding does not end it; what it left may cause others, so read the first."""
    report = Report()
    target = make_target(name, scene, chunk)
    for case in range(cases):
        place = f"{name}/{chunk}/{case}"
        rng = random.Random(derive_seed(seed, place))
        is_traced = chunk % 10 == 0 and case < TRACED_CASES
        if is_traced:
            tracemalloc.start()
        started_s = time.thread_time()
        try:
            report.outcomes[f"{name}: {target.run(rng)}"] += 1
        except Exception:
            report.findings.append((place, traceback.format_exc()))
        took_s = time.thread_time() - started_s
        if is_traced:
            _, peak_bytes = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            if peak_bytes > report.peak_bytes:
                report.peak_bytes, report.peak = peak_bytes, place
        elif took_s > report.slowest_s:
            report.slowest_s, report.slowest = took_s, place
        report.cpu_s += took_s
        report.cases += 1
        if len(report.findings) >= FINDINGS_MAX:
            break
    try:
        target.finish()
    except Exception:
        report.findings.append((f"{name}/{chunk}/{cases}", traceback.format_exc()))
    report.resident_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return report


def plan(cases: int, chunk_cases: int = CHUNK_CASES) -> Iterator[tuple[str, int, int]]:
    """(target, chunk, cases) of all chunks, the targets in turn, so that any prefix of a run has seen them all."""
    left = {name: cases * share // sum(SHARES.values()) for name, share in SHARES.items()}
    left["decode"] += cases - sum(left.values())
    chunk = 0
    while any(left.values()):
        for name in SHARES:
            count = min(left[name], chunk_cases)
            if count:
                left[name] -= count
                yield name, chunk, count
        chunk += 1


def judge(report: Report, first_bytes: int) -> list[str]:
    """What is wrong with a whole run besides its findings."""
    wrong = []
    if report.slowest_s > CASE_CPU_S_MAX:
        wrong.append(f"{report.slowest} took {report.slowest_s:.2f} s, {CASE_CPU_S_MAX} s are allowed")
    if report.peak_bytes > CASE_BYTES_MAX:
        wrong.append(f"{report.peak} took {report.peak_bytes >> 20} MiB, {CASE_BYTES_MAX >> 20} MiB are allowed")
    if report.resident_bytes - first_bytes > GROWTH_BYTES_MAX:
        wrong.append(f"memory grew from {first_bytes >> 20} to {report.resident_bytes >> 20} MiB")
    return wrong


_scene: Scene | None = None


def _start(folder: str) -> None:
    global _scene
    _scene = Scene(Path(tempfile.mkdtemp(dir=folder)))


def _work(seed: int, name: str, chunk: int, cases: int) -> Report:
    assert _scene is not None
    report = run_chunk(_scene, seed, name, chunk, cases)
    gc.collect()
    return report


def run(cases: int, seed: int, processes: int, chunk_cases: int, say: Callable[[str], None] = print) -> int:
    """The whole run; the exit status."""
    total, done, first_bytes, started_s = Report(), 0, 0, time.monotonic()
    by_target: dict[str, Report] = {name: Report() for name in SHARES}
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start, initargs=(folder,))
        with pool:
            jobs = {pool.submit(_work, seed, *one): one for one in plan(cases, chunk_cases)}
            for job in as_completed(jobs):
                report = job.result()
                total.add(report)
                by_target[jobs[job][0]].add(report)
                done += 1
                if done == 2 * len(SHARES) * processes:
                    first_bytes = total.resident_bytes
                if done % 200 == 0:
                    say(f"{total.cases} cases, {total.cases / (time.monotonic() - started_s):.0f}/s")
                if len(total.findings) >= FINDINGS_MAX:
                    pool.shutdown(cancel_futures=True)
                    break
    wall_s = time.monotonic() - started_s
    for name, report in by_target.items():
        say(
            f"{name}: {report.cases} cases, {report.cpu_s / max(report.cases, 1) * 1e6:.0f} us each; slowest "
            f"{report.slowest_s * 1e3:.0f} ms ({report.slowest}); peak {report.peak_bytes >> 10} KiB ({report.peak})"
        )
        for outcome, count in report.outcomes.most_common():
            say(f"  {count:8d} {outcome.partition(': ')[2]}")
    say(
        f"{total.cases} cases in {wall_s:.0f} s on {processes} processes: {total.cases / wall_s:.0f}/s; "
        f"at most {total.resident_bytes >> 20} MiB resident"
    )
    for place, text in total.findings:
        say(f"\nFINDING {place}\n{text}replay: python -m tests.fuzz.run --seed {seed} --replay {place}")
    wrong = judge(total, first_bytes or total.resident_bytes)
    for one in wrong:
        say(f"\nWRONG {one}; seed {seed}")
    return 1 if total.findings or wrong else 0


def replay(seed: int, place: str) -> None:
    """Run a chunk up to a case and let its exception through."""
    name, chunk, last = place.split("/")
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder) / "db")
        target = make_target(name, scene, int(chunk))
        for case in range(int(last) + 1):
            rng = random.Random(derive_seed(seed, f"{name}/{chunk}/{case}"))
            if case == int(last):
                started_s = time.thread_time()
                print(f"{place}: {target.run(rng)} ({(time.thread_time() - started_s) * 1e3:.1f} ms)")
                break
            try:
                target.run(rng)
            except Exception as error:
                print(f"case {case} before it: {type(error).__name__}: {error}")
        scene.close()


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--chunk-cases", type=int, default=CHUNK_CASES)
    parser.add_argument("--replay", metavar="TARGET/CHUNK/CASE")
    options = parser.parse_args()
    if options.replay:
        replay(options.seed, options.replay)
        return 0
    return run(options.cases, options.seed, options.processes, options.chunk_cases)


if __name__ == "__main__":
    sys.exit(main())
