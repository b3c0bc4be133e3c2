"""Damaged safetensors files: every one is refused in one line, with little memory and time."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from inference.errors import ModelFormatError
from inference.model.checkpoint import bounded_json
from inference.model.checkpoint.hf_directory import open_hf
from inference.model.checkpoint.safetensors_header import scan_safetensors
from tests.unit.inference.model.checkpoint.bounds import Edit, apply, assert_refused, edits
from tests.unit.inference.model.checkpoint.raw_safetensors import join, make_file, store, write_directory

TENSORS = {
    "plain": store(np.arange(12, dtype=np.float32).reshape(3, 4)),
    "half": store(np.ones(5, "<f2"), "F16"),
    "eight": store(np.arange(6, dtype=np.uint8).reshape(2, 3), "F8_E4M3"),
    "eight_scale_inv": store(np.ones((1, 1), np.float32)),
}
VALID = make_file(TENSORS)


def _entry(dtype: object, shape: object, offsets: object) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def _one(dtype: object, shape: object, offsets: object) -> bytes:
    return join({"w": _entry(dtype, shape, offsets)}, bytes(16))


GOOD = _entry("F32", [4], [0, 16])
DAMAGED = {
    "a header of 2**63 bytes": (struct.pack("<Q", 2**63) + bytes(32), "claims a header"),
    "a header longer than the file": (struct.pack("<Q", 1000) + bytes(32), "ends within its header"),
    "a header that is no JSON": (join(b"{'a'", b""), "cannot be read"),
    "a header that is not UTF-8": (join(b'{"\xff": 1}', b""), "cannot be read"),
    "a header that is a list": (join([], b""), "no object"),
    "a header of nothing": (join({}, b""), "holds no tensor"),
    "metadata alone": (join({"__metadata__": {}}, b""), "holds no tensor"),
    "a header nested deep": (join(b'{"a":' * 50_000, b""), "cannot be read"),
    "a tensor twice": (join(b'{"w": ' + json.dumps(GOOD).encode() + b', "w": 1}', bytes(16)), "there twice"),
    "a tensor of a number": (join({"w": 3}, bytes(16)), "does not say where"),
    "a tensor without a name": (join({"": GOOD}, bytes(16)), "does not say where"),
    "a tensor without a place": (join({"w": {"dtype": "F32", "shape": [4]}}, bytes(16)), "does not say where"),
    "an unknown dtype": (_one("F4", [4], [0, 16]), "unknown dtype 'F4'"),
    "a dtype of a list": (_one([], [4], [0, 16]), "unknown dtype"),
    "a dtype with a line break": (_one("F32\nF32", [4], [0, 16]), "unknown dtype"),
    "a shape of text": (_one("F32", "4", [0, 16]), "no list of counts"),
    "a negative shape": (_one("F32", [-2, -2], [0, 16]), "no list of counts"),
    "a shape of truths": (_one("F32", [True, 4], [0, 16]), "no list of counts"),
    "a shape of decimals": (_one("F32", [4.0], [0, 16]), "no list of counts"),
    "nine dimensions": (_one("F32", [1] * 8 + [4], [0, 16]), "no list of counts"),
    "three offsets": (_one("F32", [4], [0, 8, 16]), "no list of counts"),
    "a negative offset": (_one("F32", [4], [-16, 0]), "no list of counts"),
    "offsets backwards": (_one("F32", [4], [16, 0]), "-16 bytes where its shape needs 16"),
    "an odd number of bytes": (_one("F32", [4], [0, 15]), "15 bytes where its shape needs 16"),
    "a shape that overflows": (_one("F32", [2**62, 4], [0, 16]), "where its shape needs"),
    "no values": (_one("F32", [0, 4], [0, 0]), "0 bytes"),
    "a number of 80 bits": (_one("F32", [2**80], [0, 16]), "more than 64 bits"),
    "a tensor behind the end": (_one("F32", [4], [16, 32]), "behind a hole"),
    "a tensor past the end": (_one("F32", [8], [0, 32]), "is .* bytes long where its tensors end"),
    "bytes of no tensor": (_one("F32", [3], [0, 12]), "is .* bytes long where its tensors end"),
    "tensors that overlap": (join({"a": GOOD, "b": _entry("F32", [4], [8, 24])}, bytes(24)), "over another"),
    "tensors at one place": (join({"a": GOOD, "b": GOOD}, bytes(16)), "over another"),
    "a hole": (join({"a": GOOD, "b": _entry("F32", [1], [20, 24])}, bytes(24)), "behind a hole"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused(tmp_path: Path, name: str) -> None:
    data, match = DAMAGED[name]
    path = write_directory(tmp_path, TENSORS)
    (path / "model.safetensors").write_bytes(data)
    assert_refused(lambda: open_hf(path), match)


def test_a_file_cut_anywhere_is_refused() -> None:
    assert len(scan_safetensors(VALID, "m")) == len(TENSORS)
    for size in range(len(VALID)):
        with pytest.raises(ModelFormatError):
            scan_safetensors(VALID[:size], "m")


def test_a_header_of_many_values_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_json, "JSON_MARKS_MAX", 1 << 14)
    data = join(b'{"a": [' + b"[]," * (1 << 18) + b"[]]}", b"")
    assert_refused(lambda: scan_safetensors(data, "m"), "larger than any model's")


@given(edits(len(VALID)))
@settings(max_examples=600)
def test_nothing_but_our_error_comes_of_damaged_bytes(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Edit]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged"
    write_directory(path, TENSORS)
    (path / "model.safetensors").unlink()
    (path / "model.safetensors").write_bytes(apply(VALID, changes))
    try:
        opened = open_hf(path)
    except ModelFormatError:
        return
    for name in opened.names():
        try:
            values = opened.read(name)
        except ModelFormatError:
            continue
        assert values.shape == opened.get_shape(name)
        assert np.isfinite(values).all()
