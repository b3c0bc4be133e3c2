"""The recording of a run: a JSON file from which the table is made, and made again by a test."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.weights.sample import Measurement, Sample
from benchmarks.weights.store import StoreCosts

PATH = Path(__file__).with_name("measured.json")


@dataclass(frozen=True, slots=True)
class Recording:
    """Times are ns of CPU time, counts are exact. `machine` and `assumed` go into the table's header.

    `hooks`, blocks without transactions, give no price: they take the rest of the interval.
    """

    machine: dict[str, Any]
    assumed: dict[str, int]
    signature_ns: int
    store: StoreCosts
    hooks: tuple[Measurement, ...]
    calls: tuple[Measurement, ...]


def save_recording(recording: Recording, path: Path = PATH) -> None:
    """Write a measurement a line, so that recordings can be compared."""
    head = {
        "machine": recording.machine,
        "assumed": recording.assumed,
        "signature_ns": recording.signature_ns,
        "store": asdict(recording.store),
    }
    lines = [f" {json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    lists = (
        f' "{name}": [\n{_to_rows(found)}\n ]'
        for name, found in (("hooks", recording.hooks), ("calls", recording.calls))
    )
    path.write_text("{\n" + "\n".join(lines) + "\n" + ",\n".join(lists) + "\n}\n", "utf-8")


def load_recording(path: Path = PATH) -> Recording:
    """The recording that `save_recording` wrote."""
    found = json.loads(path.read_text("utf-8"))
    return Recording(
        found["machine"],
        found["assumed"],
        found["signature_ns"],
        StoreCosts(**found["store"]),
        tuple(_from_row(one) for one in found["hooks"]),
        tuple(_from_row(one) for one in found["calls"]),
    )


def _to_rows(found: tuple[Measurement, ...]) -> str:
    return ",\n".join(f"  {json.dumps(_to_row(one))}" for one in found)


def _to_row(one: Measurement) -> dict[str, Any]:
    return {
        "call": one.call,
        "scenario": one.scenario,
        "component": one.component,
        "size": one.size,
        **asdict(one.sample),
    }


def _from_row(row: dict[str, Any]) -> Measurement:
    sample = Sample(row["ns"], row["reads"], row["seeks"], row["rows"], row["writes"])
    return Measurement(row["call"], row["scenario"], row["component"], row["size"], sample)
