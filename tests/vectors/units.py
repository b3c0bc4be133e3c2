"""Golden vectors of unit files: the bytes of every form in every role, one whole unit, the golden window's tokens."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from inference.engine.golden import compute_range, make_golden_tokens
from inference.model.checkpoint.e4m3 import E4M3_VALUES
from inference.model.checkpoint.source import Blocks
from inference.model.families.registry import get_family
from inference.model.forms import (
    BLOCK_FORMS,
    FLOAT_BLOCK,
    Array,
    Role,
    is_blocked,
    pack_blocks,
    pack_values,
    unpack_rows,
)
from inference.model.layout import Part, can_hold, compute_unit_bytes, place_tensors
from proto_specs.jsonform import to_json
from proto_specs.merkle import compute_root
from proto_specs.types.manifest import Architecture, Form, Setting, Unit, UnitKind

Vectors = dict[str, Any]

VOCABULARIES = (49_152, 151_936)
_SHAPES = {Role.VECTOR: (5,), Role.MATRIX: (3,), Role.TABLE: (3,), Role.EXPERTS: (2, 2), Role.HEADS: (2, 3)}
"""Shapes of the examples, their columns left out."""
_SETTINGS = {
    "ffn": "32",
    "head_dim": "16",
    "heads": "2",
    "kv_heads": "1",
    "norm_epsilon": "1e-05",
    "rope_theta": "10000.0",
    "tied_embeddings": "true",
}
_LAYER_FORMS = {
    "attn_norm": Form.FP32,
    "q": Form.Q4_B32_MIN,
    "k": Form.Q4_B32_MIN,
    "v": Form.Q8_B16,  # not joined with q and k: its form is another
    "attn_out": Form.BF16,
    "ffn_norm": Form.FP32,
    "gate": Form.Q8_B32_MIN,
    "up": Form.Q8_B32_MIN,
    "down": Form.Q4_B16,
}


def build_units() -> Vectors:
    """Every form in every role that can have it, a whole unit, golden tokens and ranges."""
    text = (
        "units.md; arrays and values in hex of their little-endian bytes, row-major; codes: one byte an element, "
        "scales and offsets: fp32, one a block; values: the fp32 numbers that the arrays stand for; source of FP32, "
        "FP16 and BF16: fp32 that the form holds exactly"
    )
    tensors = [
        _show_tensor(form, role, seed)
        for seed, (form, role) in enumerate((form, role) for form in Form for role in Role)
        if can_hold(form, _make_part(form, role))
    ]
    return {
        "format": text,
        "e4m3": E4M3_VALUES[:127].astype("<f4").tobytes().hex(),
        "tensors": tensors,
        "unit": _show_unit(),
        "golden": [{"vocab": one, "tokens": make_golden_tokens(one).tolist()} for one in VOCABULARIES],
        "ranges": [
            {"largest": largest, "range": compute_range(np.array([[-largest, 0.0]], np.float32))}
            for largest in (0.0, 0.0625, 0.125, 1.0, 1000.03125, 1e30)
        ],
    }


def make_contents(form: Form, role: Role, rows: int, columns: int, seed: int) -> tuple[dict[str, Array], Vectors]:
    """The arrays of some rows, and what they were made from."""
    count = rows * columns
    if not is_blocked(form):
        values = ((np.arange(count) * 7 + seed) % 61 - 30) / np.float32(8 if form is not Form.FP32 else 7)
        values = values.astype(np.float32).reshape(rows, columns)
        return pack_values(form, values if role is not Role.VECTOR else values[:, 0]), {"source": _to_hex(values)}
    block, bits = (FLOAT_BLOCK, 8) if form is Form.F8_B128 else (BLOCK_FORMS[form].block, BLOCK_FORMS[form].bits)
    modulus = 127 if form is Form.F8_B128 else 1 << bits  # 127 is NaN
    codes = ((np.arange(count) * 37 + 11 * seed) % modulus).astype(np.uint8).reshape(rows, columns)
    if form is Form.F8_B128:
        codes |= ((np.arange(count) // 5 % 2) << 7).astype(np.uint8).reshape(rows, columns)
    places = np.arange(rows * columns // block).reshape(rows, columns // block)
    scale = (np.where(places % 3 == 2, -1, 1) * (places + 1) / np.float32(10 + seed)).astype(np.float32)
    offset = None
    if form is not Form.F8_B128 and BLOCK_FORMS[form].has_offset:
        offset = (-(places + 2) / np.float32(7)).astype(np.float32)
    made = {"codes": codes.tobytes().hex(), "scales": _to_hex(scale)}
    if offset is not None:
        made["offsets"] = _to_hex(offset)
    return pack_blocks(form, role, Blocks(codes, scale, offset)), made


def _make_part(form: Form, role: Role) -> Part:
    columns = {Form.F8_B128: 2 * FLOAT_BLOCK}.get(form, 64)
    return Part("w", role, _SHAPES[role] if role is Role.VECTOR else (*_SHAPES[role], columns))


def _show_tensor(form: Form, role: Role, seed: int) -> Vectors:
    part = _make_part(form, role)
    columns = part.shape[-1] if role is not Role.VECTOR else 1
    arrays, made = make_contents(form, role, part.rows, columns, seed)
    (stored,) = place_tensors([part], [form])
    return {
        "form": form.name,
        "role": role.value,
        "shape": list(part.shape),
        "made_of": made,
        "arrays": [
            {"name": one.name, "shape": list(one.shape), "bytes": arrays[one.name].tobytes().hex()}
            for one in stored.arrays
        ],
        "values": _to_hex(unpack_rows(form, role, arrays)),
    }


def _show_unit() -> Vectors:
    settings = tuple(Setting(name, value) for name, value in _SETTINGS.items())
    architecture = Architecture("llama", 1, 32, 256, 512, settings)
    family = get_family("llama")
    parts = family.list_parts(family.read_architecture(architecture), UnitKind.LAYER, 0)
    forms = [_LAYER_FORMS[one.name] for one in parts]
    tensors = place_tensors(parts, forms)
    data, shown = bytearray(compute_unit_bytes(tensors)), []
    made = {one.name: seed for seed, one in enumerate(parts)}
    for tensor in tensors:
        first = 0
        for part in tensor.parts:
            arrays, contents = make_contents(tensor.form, part.role, part.rows, tensor.columns, made[part.name])
            shown.append({"part": part.name, "form": tensor.form.name, "shape": list(part.shape), "made_of": contents})
            for array in tensor.arrays:
                raw = arrays[array.name].tobytes()
                start = array.offset + first * (array.size // array.shape[0])
                data[start : start + len(raw)] = raw
            first += part.rows
    unit = Unit(UnitKind.LAYER, 0, len(data), compute_root([bytes(data)]), tuple(map(int, forms)))
    return {
        "architecture": to_json(architecture, 42),
        "parts": shown,
        "arrays": [
            {"tensor": tensor.name, "name": one.name, "shape": list(one.shape), "offset": one.offset, "size": one.size}
            for tensor in tensors
            for one in tensor.arrays
        ],
        "unit": to_json(unit, 42),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def _to_hex(values: Array) -> str:
    return values.astype("<f4").tobytes().hex()
