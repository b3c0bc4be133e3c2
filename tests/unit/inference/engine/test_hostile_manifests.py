"""Manifests come from strangers: what no layout can hold is refused in one line, before a byte is mapped."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inference.engine.ort import ShardSession
from inference.errors import ModelFormatError
from inference.model.graph.shard import ShardRange
from proto_specs.types.manifest import Form, Manifest, Unit, UnitKind, validate_manifest
from tests.unit.inference.conftest import TinyModel


def _change_unit(manifest: Manifest, kind: UnitKind, **fields: object) -> Manifest:
    def change(unit: Unit) -> Unit:
        return replace(unit, **fields) if (unit.kind, unit.index) == (kind, 0) else unit  # type: ignore[arg-type]

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
        ShardSession(ShardRange(changed, 0, 1), model.directory)
