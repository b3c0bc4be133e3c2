"""`python -m benchmarks.weights`: measure every call, record it, write the table. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

from benchmarks.machine import describe_machine
from benchmarks.weights import basic, hooks, inference, recording, render, staking
from benchmarks.weights.fit import build_table
from benchmarks.weights.recording import Recording
from benchmarks.weights.rig import compute_quiet
from benchmarks.weights.sample import Measurement
from benchmarks.weights.store import measure_store
from benchmarks.weights.worlds import ASSUMED
from genesis.dev import get_dev_identity
from proto_specs.ed25519 import is_signature_valid
from proto_specs.hashing import Tag

ROUNDS = 3
SIGNATURES = 500


def main() -> None:
    """Measure; with --render only write the table from the recording."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.weights", description=__doc__)
    parser.add_argument("--render", action="store_true", help="measure nothing: write the table from the recording")
    options = parser.parse_args()
    if not options.render:
        with tempfile.TemporaryDirectory(prefix="myelin-weights-") as directory:
            recording.save_recording(measure(Path(directory) / "db"))
    render.PATH.write_text(make_table_text(recording.load_recording()), "utf-8")


def make_table_text(found: Recording) -> str:
    """The text of a recording's module."""
    return render.render(build_table(found), found.machine, found.assumed, found.store.accounts)


def measure(directory: Path) -> Recording:
    """Measure everything; the calls in several rounds, so that a slow minute of the machine affects all alike."""
    blocks, rounds = [], []
    for number in range(ROUNDS):
        say(f"calls, round {number + 1} of {ROUNDS}")
        blocks.append(list(hooks.measure()))
        rounds.append(list(measure_calls()))
    say("signatures")
    signature_ns = measure_signature()
    say("a database of a million accounts")
    store = measure_store(directory)
    return Recording(describe_machine(), ASSUMED, signature_ns, store, merge(blocks), merge(rounds))


def measure_calls() -> Iterator[Measurement]:
    """Measure the calls of all modules once."""
    return chain(basic.measure(), staking.measure(), inference.measure())


def merge(rounds: list[list[Measurement]]) -> tuple[Measurement, ...]:
    """The rounds' median times. The counts are the same in all rounds."""
    merged = []
    for found in zip(*rounds, strict=True):
        first = found[0]
        for one in found[1:]:
            assert replace(one, sample=first.sample) == first, "rounds measure the same"
            assert one.sample.parts[1:] == first.sample.parts[1:], f"{one.call}, {one.scenario}: counts differ"
        ns = round(statistics.median(one.sample.ns for one in found))
        merged.append(replace(first, sample=replace(first.sample, ns=ns)))
    return tuple(merged)


def measure_signature() -> int:
    """ns of a verification."""
    key, taken = get_dev_identity("alice").account_key, []
    for number in range(SIGNATURES):
        payload = number.to_bytes(8, "big")
        signature = key.sign(Tag.EXTRINSIC_SIGN, payload)
        started = time.thread_time_ns()
        assert is_signature_valid(key.public_key, Tag.EXTRINSIC_SIGN, payload, signature)
        taken.append(time.thread_time_ns() - started)
    return compute_quiet(taken)


def say(text: str) -> None:
    """Print progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
