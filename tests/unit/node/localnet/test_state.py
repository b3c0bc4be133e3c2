"""The state file comes back as it was written, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.localnet.errors import LocalnetError
from node.localnet.plan import Partitions, Wanted, make_plan
from node.localnet.state import FILE_NAME, LocalnetState, Phase, ProcessRecord, load_state, save_state
from node.machine.processes import Identity


def make_state(base: Path) -> LocalnetState:
    plan = make_plan(base, Wanted(4, 2, 1_000, Partitions.PROXY, 5), 1_700_000_000_000, "ab" * 32, "/models", 30)
    record = ProcessRecord(Identity(123, "boot:77"), 1_700_000_000_001)
    return LocalnetState(plan, Phase.UP, {"alice": record}, (("alice",), ("bob", "charlie", "dave")))


def test_round_trip(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    state = make_state(tmp_path)
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state


def change(record: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for one in parents:
        record = record[one]
    record[last] = value


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("processes/alice/identity/pid", "123"),
        ("processes/alice/identity/pid", True),
        ("processes/alice/identity", {"pid": 1}),
        ("processes/alice/identity/more", 1),
        ("processes", []),
        ("phase", "sideways"),
        ("groups", [["alice"], "bob"]),
        ("plan/validators", None),
        ("plan/partitions", "walls"),
        ("version", 1),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, path: str, value: Any) -> None:
    save_state(tmp_path, make_state(tmp_path))
    file = tmp_path / FILE_NAME
    record = json.loads(file.read_text())
    change(record, path, value)
    file.write_text(json.dumps(record))
    with pytest.raises(LocalnetError, match="is damaged"):
        load_state(tmp_path)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"[" * 50_000, b"\xff", b"null", b"{}"])
def test_garbage_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(data)
    with pytest.raises(LocalnetError, match="is damaged"):
        load_state(tmp_path)
