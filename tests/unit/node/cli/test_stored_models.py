"""A stored model is found by name or id, whatever else lies beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.manifests import build_manifest
from inference.errors import StoreError
from inference.model.store import ShardStore
from node.cli.stored_models import find_model


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
