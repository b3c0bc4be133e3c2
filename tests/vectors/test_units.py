"""The vectors of unit files, read as another implementation would from units.md: no array library, none of our code."""

from __future__ import annotations

import hashlib
import json
import math
import struct
from typing import Any

import pytest

from proto_specs.merkle import compute_root
from tests.vectors.generate import VECTORS

UNITS = json.loads((VECTORS / "units.json").read_text("utf-8"))
MIDDLES = {"4": 8, "8": 128}


def to_fp32(number: float) -> float:
    """Rounded to the nearest fp32."""
    return float(struct.unpack("<f", struct.pack("<f", number))[0])


def read_floats(text: str) -> list[float]:
    data = bytes.fromhex(text)
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def get_block(form: str) -> tuple[str, int]:
    """Bits and block of a form, from its name."""
    return form[1], int(form.split("_")[1][1:])


def decode_e4m3(code: int) -> float:
    exponent, fraction = code >> 3 & 15, code & 7
    size = math.ldexp(8 + fraction, exponent - 10) if exponent else math.ldexp(fraction, -9)
    return -size if code & 128 else size


def pack_nibbles(codes: bytes) -> bytes:
    return bytes(codes[place] | codes[place + 1] << 4 for place in range(0, len(codes), 2))


def make_arrays(form: str, role: str, columns: int, made: dict[str, str]) -> dict[str, bytes]:
    """The bytes of a tensor's arrays, as the page says, from codes, scales and offsets or from fp32 values."""
    if "source" in made:
        values = read_floats(made["source"])
        letter = {"FP32": "f", "FP16": "e"}.get(form)
        if letter is None:
            return {"values": b"".join(struct.pack("<f", one)[2:] for one in values)}
        return {"values": struct.pack(f"<{len(values)}{letter}", *values)}
    codes, scales = bytes.fromhex(made["codes"]), made["scales"]
    if form == "F8_B128":
        return {"floats": codes, "scales": bytes.fromhex(scales)}
    bits, block = get_block(form)
    arrays: dict[str, bytes] = {}
    if bits == "4":
        arrays = {"codes": pack_nibbles(codes), "scales": bytes.fromhex(scales)}
    elif role == "table":
        arrays = {"codes": codes, "scales": bytes.fromhex(scales)}
    else:
        blocks, planes, doubled, middles = columns // block, b"", b"", b""
        for start in range(0, len(codes), columns):
            row = codes[start : start + columns]
            planes += pack_nibbles(bytes(one >> 4 for one in row)) + pack_nibbles(bytes(one & 15 for one in row))
            mine = read_floats(scales)[start // block : start // block + blocks]
            doubled += struct.pack(f"<{2 * blocks}f", *(16 * one for one in mine), *mine)
            middles += pack_nibbles(bytes([8] * blocks + [0] * blocks))
        arrays = {"codes": planes, "scales": doubled, "middles": middles}
    if "offsets" in made:
        arrays["offsets"] = bytes.fromhex(made["offsets"])
    return arrays


def compute_values(form: str, made: dict[str, str]) -> list[float]:
    """What the tensor stands for."""
    if "source" in made:
        return read_floats(made["source"])
    codes, scales = bytes.fromhex(made["codes"]), read_floats(made["scales"])
    if form == "F8_B128":
        return [to_fp32(decode_e4m3(one) * scales[at // 128]) for at, one in enumerate(codes)]
    bits, block = get_block(form)
    values = [to_fp32(scales[at // block] * (one - MIDDLES[bits])) for at, one in enumerate(codes)]
    if "offsets" in made:
        offsets = read_floats(made["offsets"])
        values = [to_fp32(one + offsets[at // block]) for at, one in enumerate(values)]
    return values


@pytest.mark.parametrize("tensor", UNITS["tensors"], ids=lambda one: f"{one['form']}-{one['role']}")
def test_a_tensor(tensor: dict[str, Any]) -> None:
    made, columns = tensor["made_of"], tensor["shape"][-1]
    arrays = make_arrays(tensor["form"], tensor["role"], columns, made)
    assert [(one["name"], one["bytes"]) for one in tensor["arrays"]] == [(n, b.hex()) for n, b in arrays.items()]
    assert read_floats(tensor["values"]) == compute_values(tensor["form"], made)


def test_every_form_has_its_roles() -> None:
    floats, blocks = ("FP32", "FP16", "BF16"), [f"Q{b}_B{k}{m}" for b in "48" for k in (32, 16) for m in ("", "_MIN")]
    wanted = {("FP32", "vector"), ("F8_B128", "experts")}
    wanted |= {(form, role) for form in floats for role in ("matrix", "table", "experts", "heads")}
    wanted |= {(form, role) for form in blocks for role in ("matrix", "table", "experts")}
    assert {(one["form"], one["role"]) for one in UNITS["tensors"]} == wanted


def test_floats_of_8_bits() -> None:
    assert read_floats(UNITS["e4m3"]) == [decode_e4m3(one) for one in range(127)]


def test_a_whole_unit() -> None:
    """Joined parts row after row, arrays at multiples of 4096, zeros between, nothing behind the last."""
    vectors = UNITS["unit"]
    forms, by_part = ["FP32", "Q4_B32_MIN", "Q8_B16"], {one["part"]: one for one in vectors["parts"]}
    assert [by_part[one]["form"] for one in ("attn_norm", "q", "v")] == forms
    data = bytearray()
    for tensor in dict.fromkeys(one["tensor"] for one in vectors["arrays"]):
        joined: dict[str, bytes] = {}
        for name in tensor.split("+"):
            part = by_part[name]
            for array, raw in make_arrays(part["form"], "matrix", part["shape"][-1], part["made_of"]).items():
                joined[array] = joined.get(array, b"") + raw
        for array, raw in joined.items():
            data += bytes(-len(data) % 4096)
            shown = next(one for one in vectors["arrays"] if (one["tensor"], one["name"]) == (tensor, array))
            assert (shown["offset"], shown["size"]) == (len(data), len(raw))
            data += raw
    assert hashlib.sha256(data).hexdigest() == vectors["sha256"]
    assert len(data) == vectors["unit"]["bytes_total"]
    assert f"0x{compute_root([bytes(data)]).hex()}" == vectors["unit"]["root"]
    names = list(dict.fromkeys(one["tensor"] for one in vectors["arrays"]))
    assert names == ["attn_norm", "q+k", "v", "attn_out", "ffn_norm", "gate+up", "down"]


def test_golden_tokens() -> None:
    drawn = hashlib.shake_256(b"myelin/golden").digest(256)
    for one in UNITS["golden"]:
        numbers = [int.from_bytes(drawn[at : at + 8], "little") for at in range(0, 256, 8)]
        assert one["tokens"] == [number % one["vocab"] for number in numbers]


def test_ranges() -> None:
    for one in UNITS["ranges"]:
        wanted = min(max(1, math.ceil(16 * to_fp32(one["largest"]))), 2**32 - 1)
        assert one["range"] == wanted
