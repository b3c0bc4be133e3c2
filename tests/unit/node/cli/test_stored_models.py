"""A stored model is found by name or id, whatever else lies beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.manifests import build_manifest
from inference.errors import StoreError
from inference.model.store import ShardStore
from node.cli.main import app
from node.cli.stored_models import find_model, find_wanted_model


def test_a_directory_that_cannot_be_read_hides_no_other_model(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    model = store.save_manifest(build_manifest(3, name="Mine"))
    for name in ("11" * 32, "22" * 32):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.msgpack").write_bytes(b"of another version")
    assert find_model(store, "mine") == find_model(store, model.hex()[:8]) == model
    with pytest.raises(StoreError, match="damaged or of another version"):
        find_model(store, "1111")
    with pytest.raises(StoreError, match="no stored model is called 'yours'; stored: Mine"):
        find_model(store, "yours")


def test_a_whole_id_is_wanted_though_nothing_is_stored(tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    assert find_wanted_model(store, "0x" + "Ab" * 32) == find_wanted_model(store, "ab" * 32) == b"\xab" * 32
    model = store.save_manifest(build_manifest(3, name="Mine"))
    assert find_wanted_model(store, "mine") == model
    with pytest.raises(StoreError, match="no stored model"):
        find_wanted_model(store, "ab" * 31)


def test_a_list_leaves_out_what_cannot_be_read_and_says_so(tmp_path: Path) -> None:
    model = ShardStore(tmp_path).save_manifest(build_manifest(3, name="Mine"))
    (tmp_path / ("11" * 32)).mkdir()
    (tmp_path / ("11" * 32) / "manifest.msgpack").write_bytes(b"of another version")
    done = CliRunner().invoke(app, ["model", "list", "--models", str(tmp_path), "--json"])
    assert done.exit_code == 0
    assert [one["model"] for one in json.loads(done.stdout)] == [f"0x{model.hex()}"]
    assert "left out: " in done.stderr
    assert "11" * 32 in done.stderr
