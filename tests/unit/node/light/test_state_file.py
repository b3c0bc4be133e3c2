"""What a light client remembers: read back as written, and refused when damaged or of another chain."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.light.errors import LightStateInvalid
from node.light.state_file import LightState, load_state, save_state

STATE = LightState(b"\x01" * 32, 7, b"\x02" * 32)


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "new" / "light.json"
    assert load_state(path, STATE.genesis) is None
    save_state(path, STATE)
    assert load_state(path, STATE.genesis) == STATE


def test_another_chains_file_is_not_taken(tmp_path: Path) -> None:
    save_state(tmp_path / "light.json", STATE)
    with pytest.raises(LightStateInvalid, match="--state"):
        load_state(tmp_path / "light.json", bytes(32))


@pytest.mark.parametrize(
    ("old", "new"),
    [("{", ""), ('"height": 7', '"height": 0'), ("0202", "02"), ("light-1", "light-9"), ('"hash"', '"has"')],
)
def test_damage_is_named(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "light.json"
    save_state(path, STATE)
    path.write_text(path.read_text("utf-8").replace(old, new, 1), "utf-8")
    with pytest.raises(LightStateInvalid, match="damaged"):
        load_state(path, STATE.genesis)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(LightStateInvalid, match="damaged"):
        load_state(path, STATE.genesis)
