"""Manifests come from strangers: what no layout can hold is refused in one line, before a byte is mapped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inference.engine.golden import check_golden
from inference.engine.ort import ShardSession
from inference.errors import ModelError, ModelFormatError
from inference.model.graph.shard import ShardRange
from inference.model.layout import compute_file_name
from inference.model.store import ShardStore, compute_file_root
from proto_specs.types.manifest import Form, Manifest, Unit, UnitKind, validate_manifest
from tests.unit.inference.conftest import TinyModel


def _change_unit(manifest: Manifest, kind: UnitKind, index: int = 0, **fields: object) -> Manifest:
    def change(unit: Unit) -> Unit:
        return replace(unit, **fields) if (unit.kind, unit.index) == (kind, index) else unit  # type: ignore[arg-type]

    changed = replace(manifest, units=tuple(map(change, manifest.units)))
    validate_manifest(changed)
    return changed


@pytest.mark.parametrize("kind", [UnitKind.EMBED, UnitKind.LAYER])
@pytest.mark.parametrize("form", [Form.F8_B128, Form.Q4_B32, Form.FP16])
def test_forms_that_a_part_cannot_have_are_refused(model: TinyModel, kind: UnitKind, form: Form) -> None:
    forms = next(one.forms for one in model.manifest.units if (one.kind, one.index) == (kind, 0))
    changed = _change_unit(model.manifest, kind, forms=(form,) * len(forms))
    wanted = "has .* bytes, its tensors have" if kind is UnitKind.EMBED and form != Form.F8_B128 else "cannot be"
    with pytest.raises(ModelFormatError, match=wanted):
        ShardSession(ShardRange(changed, 0, 1), model.directory)


@pytest.mark.parametrize("kind", [UnitKind.EMBED, UnitKind.LAYER])
@pytest.mark.parametrize("size", [0, 4096, 1 << 60])
def test_a_length_that_the_tensors_do_not_have_is_refused(model: TinyModel, kind: UnitKind, size: int) -> None:
    changed = _change_unit(model.manifest, kind, bytes_total=size)
    with pytest.raises(ModelFormatError, match=f"has {size} bytes"):
        ShardRange(changed, 0, 1).check()  # before any unit is fetched
    with pytest.raises(ModelFormatError, match=f"has {size} bytes"):
        ShardSession(ShardRange(changed, 0, 1), model.directory)


WINDOW = 32 * 64


@pytest.mark.parametrize(
    "rows",
    [
        np.zeros(0, np.float32),
        np.zeros(WINDOW - 1, np.float32),
        np.zeros(2 * WINDOW, np.float32),
        np.zeros(WINDOW, np.float32),
        np.full(WINDOW, np.nan, np.float32),
        np.full(WINDOW, 1e38, np.float32),
    ],
)
@pytest.mark.parametrize("boundary", [0, 1, 2])
def test_golden_windows_of_a_stranger_are_refused(
    model: TinyModel, tmp_path: Path, boundary: int, rows: np.ndarray
) -> None:
    """The attack: a unit whose hash is right, and which is no window."""
    path = tmp_path / "golden"
    path.write_bytes(rows.tobytes())
    changed = _change_unit(
        model.manifest, UnitKind.GOLDEN, boundary, bytes_total=path.stat().st_size, root=compute_file_root(path)
    )
    store = ShardStore(tmp_path / "models")
    model_id = store.save_manifest(changed)
    for file in model.directory.iterdir():
        if file.suffix == ".bin":
            (store.get_directory(model_id) / file.name).hardlink_to(file)
    target = store.get_directory(model_id) / compute_file_name(UnitKind.GOLDEN, boundary)
    path.replace(target)
    session = ShardSession(ShardRange(changed, *((0, 1) if boundary == 0 else (1, 2))), model.directory)
    with pytest.raises(ModelError) as refusal:
        check_golden(session, store, model_id)
    assert "\n" not in str(refusal.value)
