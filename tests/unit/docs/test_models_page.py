"""docs/models.md against the code: the families that can be imported, and the bits that a weight takes."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES

from inference.model.checkpoint.gguf_blocks import BLOCK_TYPES
from inference.model.families.registry import list_families
from inference.model.forms import Role, compute_arrays
from inference.model.profiles import make_profile
from proto_specs.types.manifest import Form, ServiceClass, WireDtype

PAGE = (Path(__file__).parents[3] / "docs/models.md").read_text("utf-8")
COLUMNS = 1 << 12


def read_rows(first: str) -> list[list[str]]:
    """Cells of the rows of the page's table that begins so."""
    lines = PAGE[PAGE.index(first) :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def compute_bits(form: Form, role: Role) -> float:
    arrays = compute_arrays(form, role, 1, COLUMNS).values()
    return 8 * sum(math.prod(shape) * np.dtype(dtype).itemsize for dtype, shape in arrays) / COLUMNS


def test_families() -> None:
    rows = {name: (kinds.split(" with ")[0], types) for name, kinds, types, _ in read_rows("| family | GGUF")}
    assert rows.keys() == {one.name for one in list_families()}
    for family in list_families():
        kinds, types = rows[family.name]
        assert tuple(types.split(", ")) == family.hf_kinds
        assert kinds.startswith("(") if not family.gguf_kinds else tuple(kinds.split(", ")) == family.gguf_kinds


def test_bits_in_a_weight() -> None:
    told = {
        name: (float(size), float(matrix), float(table))
        for names, sizes, matrix, table in read_rows("| GGUF type | in the file")
        for name, size in zip(names.split(", "), sizes.split(", "), strict=True)
    }
    assert told.keys() == {kind.name for kind in BLOCK_TYPES}
    for kind, block in BLOCK_TYPES.items():
        values, size = GGML_QUANT_SIZES[kind]
        made = (8 * size / values, compute_bits(block.form, Role.MATRIX), compute_bits(block.form, Role.TABLE))
        assert told[kind.name] == pytest.approx(made, abs=0.005)
    assert compute_bits(Form.F8_B128, Role.EXPERTS) == 8.25


def test_thresholds() -> None:
    for name, threshold, *_ in read_rows("| wire | threshold"):
        ppb = int(threshold.partition(" ppb")[0].replace(",", ""))
        assert make_profile(ServiceClass.EXACT, WireDtype[name.upper()]).threshold_ppb == ppb
