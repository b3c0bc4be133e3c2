"""Damaged GGUF files: every one is refused in one line, with little memory and time, and nothing else is raised."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Kind
from hypothesis import given, settings

from inference.errors import ModelFormatError
from inference.model.checkpoint import gguf_header
from inference.model.checkpoint.gguf_file import open_gguf
from inference.model.checkpoint.gguf_header import scan_header
from proto_specs.types.manifest import Form
from tests.unit.inference.model.checkpoint.bounds import Edit, apply, assert_refused, edits
from tests.unit.inference.model.checkpoint.raw_gguf import (
    ARCHITECTURE,
    RawGguf,
    V,
    array,
    entry,
    make_blocks,
    setting,
    text,
)

BLOCK_FORMS = frozenset(form for form in Form if form.name.startswith("Q"))


def _make_valid() -> RawGguf:
    raw = RawGguf(
        [
            ARCHITECTURE,
            setting("general.alignment", V.UINT32, 32),
            setting("a.scale", V.FLOAT32, 0.5),
            array("tokenizer.ggml.tokens", V.STRING, ["a", "é", "<s>"]),
            array("tokenizer.ggml.scores", V.FLOAT32, [0.0, 1.0, 2.0]),
            array("a.flags", V.BOOL, [True, False]),
        ]
    )
    raw.add("plain", (3, 4), Kind.F32, np.arange(12, dtype=np.float32).tobytes())
    raw.add("half", (5,), Kind.F16, bytes(10))
    raw.add("blocks", (2, 32), Kind.Q4_1, make_blocks(Kind.Q4_1, 2, 0).tobytes())
    return raw.add("experts", (2, 2, 256), Kind.Q6_K, make_blocks(Kind.Q6_K, 4, 0).tobytes())


VALID = _make_valid().make()
F32_BYTES = bytes(np.zeros(64, np.float32))


def _with_setting(*pieces: bytes) -> bytes:
    return RawGguf([ARCHITECTURE, *pieces]).make()


def _with_entry(*entries: bytes, data: bytes = F32_BYTES) -> bytes:
    return RawGguf(entries=list(entries), data=data).make()


def _key(kind: int, rest: bytes = b"") -> bytes:
    return text("k") + struct.pack("<I", kind) + rest


DAMAGED = {
    "another magic": (RawGguf(magic=b"GGML").make(), "is no GGUF file"),
    "2**60 tensors": (RawGguf(tensors=2**60).make(), "claims .* tensors"),
    "2**64-1 keys": (RawGguf(keys=2**64 - 1).make(), "claims .* keys"),
    "more tensors than bytes": (RawGguf(tensors=1000).make(), "claims 1000 tensors"),
    "a key fewer than there are": (RawGguf([ARCHITECTURE] * 2, keys=1, tensors=1).make(), "gives|ends|has|holds"),
    "a key twice": (_with_setting(ARCHITECTURE), "states the key .* twice"),
    "a key of 2**50 bytes": (_with_setting(struct.pack("<Q", 2**50) + bytes(64)), "has a key of"),
    "an empty key": (_with_setting(setting("", V.UINT8, 1)), "has a key of 0 bytes"),
    "a key that is not UTF-8": (_with_setting(setting(b"\xff\xfe", V.UINT8, 1)), "not UTF-8"),
    "a text of 2**50 bytes": (_with_setting(_key(8, struct.pack("<Q", 2**50))), "ends within its header"),
    "a text that is not UTF-8": (_with_setting(setting("k", V.STRING, b"\xc3\x28")), "not UTF-8"),
    "a value of an unknown type": (_with_setting(_key(13, bytes(8))), "unknown type 13"),
    "a truth value of 2": (_with_setting(_key(7, b"\x02")), "truth value"),
    "a number that is none": (_with_setting(setting("k", V.FLOAT32, np.nan)), "states nan"),
    "an infinite number": (_with_setting(setting("k", V.FLOAT64, -np.inf)), "states -inf"),
    "an array of arrays": (_with_setting(_key(9, struct.pack("<IQ", 9, 1))), "array of arrays"),
    "an array of an unknown type": (_with_setting(_key(9, struct.pack("<IQ", 99, 1))), "unknown type 99"),
    "2**60 numbers": (_with_setting(_key(9, struct.pack("<IQ", 4, 2**60))), "claims .* items"),
    "2**61 texts": (_with_setting(_key(9, struct.pack("<IQ", 8, 2**61))), "claims .* items"),
    "more numbers than bytes": (_with_setting(_key(9, struct.pack("<IQ", 12, 2**22))), "ends within its header"),
    "more texts than bytes": (_with_setting(_key(9, struct.pack("<IQ", 8, 2**22))), "claims .* texts"),
    "a token of 2**63 bytes": (_with_setting(_key(9, struct.pack("<IQQ", 8, 1, 2**63))), "ends within its header"),
    "a token that is not UTF-8": (_with_setting(array("k", V.STRING, ["a", b"\xff"])), "not UTF-8"),
    "no alignment": (_with_setting(setting("general.alignment", V.UINT32, 0)), "power of two"),
    "an alignment of 24": (_with_setting(setting("general.alignment", V.UINT32, 24)), "power of two"),
    "an alignment of text": (_with_setting(setting("general.alignment", V.STRING, "32")), "power of two"),
    "a true alignment": (_with_setting(setting("general.alignment", V.BOOL, True)), "power of two"),
    "an alignment of 2**31": (_with_setting(setting("general.alignment", V.UINT32, 2**31)), "power of two"),
    "a tensor without a name": (_with_entry(entry("", (4,), 0, 0)), "name of 0 bytes"),
    "a name of 2**40 bytes": (_with_entry(struct.pack("<Q", 2**40) + bytes(64)), "tensor's name of"),
    "a name that is not UTF-8": (_with_entry(entry(b"\xf0", (4,), 0, 0)), "not UTF-8"),
    "no dimension": (_with_entry(entry("w", (), 0, 0) + bytes(16)), "0 dimensions"),
    "2**32-1 dimensions": (_with_entry(text("w") + struct.pack("<IQQQ", 2**32 - 1, 1, 1, 1)), "dimensions"),
    "a dimension of zero": (_with_entry(entry("w", (0, 4), 0, 0)), "no values"),
    "dimensions whose product overflows": (_with_entry(entry("w", (2**32, 2**32, 2), 0, 0)), "ends before 'w' does"),
    "2**63 values": (_with_entry(entry("w", (2**63,), 0, 0)), "ends before 'w' does"),
    "a tensor of an unknown type": (_with_entry(entry("w", (4,), 4, 0)), "unknown type 4"),
    "a tensor of type 2**31": (_with_entry(entry("w", (4,), 2**31, 0)), "unknown type"),
    "rows of no whole blocks": (_with_entry(entry("w", (33, 2), Kind.Q4_0, 0)), "not whole blocks of Q4_0"),
    "rows of half a K block": (_with_entry(entry("w", (128, 2), Kind.Q4_K, 0)), "not whole blocks of Q4_K"),
    "an unaligned tensor": (_with_entry(entry("w", (4,), 0, 4)), "another tensor or no tensor"),
    "a tensor behind the end": (_with_entry(entry("w", (4,), 0, 2**40)), "ends before"),
    "a tensor at 2**64-32": (_with_entry(entry("w", (4,), 0, 2**64 - 32)), "ends before"),
    "a tensor that reaches past the end": (_with_entry(entry("w", (65,), 0, 0)), "ends before"),
    "tensors that overlap": (_with_entry(entry("a", (16,), 0, 0), entry("b", (8,), 0, 32)), "another tensor"),
    "tensors at one place": (_with_entry(entry("a", (4,), 0, 0), entry("b", (4,), 0, 0)), "another tensor"),
    "two tensors of one name": (_with_entry(entry("w", (4,), 0, 0), entry("w", (4,), 0, 32)), "two tensors"),
}


@pytest.fixture
def opening(tmp_path: Path) -> Callable[[bytes], Callable[[], object]]:
    path = tmp_path / "m.gguf"

    def prepare(data: bytes) -> Callable[[], object]:
        path.write_bytes(data)
        return lambda: open_gguf(path)

    return prepare


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_refused(opening: Callable[[bytes], Callable[[], object]], name: str) -> None:
    data, match = DAMAGED[name]
    assert_refused(opening(data), match)


def test_a_file_cut_anywhere_is_refused(opening: Callable[[bytes], Callable[[], object]]) -> None:
    opening(VALID)()
    for size in range(len(VALID)):
        try:
            scan_header(VALID[:size], "m.gguf")
        except ModelFormatError as error:
            assert len(str(error).splitlines()) == 1  # noqa: PT017  the loop is what is tested
        else:
            raise AssertionError(f"cut to {size} bytes and still read")
    for size in (0, 3, 23):
        assert_refused(opening(VALID[:size]), "too short")


def test_a_header_without_end_is_bounded(
    opening: Callable[[bytes], Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_header, "HEADER_BYTES_MAX", 1 << 16)
    numbers = array("k", V.UINT8, [0] * (1 << 16))
    assert_refused(opening(_with_setting(numbers)), "header of more than")
    assert_refused(opening(_with_setting(array("k", V.STRING, ["x" * 100] * 1000))), "too long")
    monkeypatch.setattr(gguf_header, "ITEMS_MAX", 1000)
    items = [array(f"k{index}", V.STRING, [""] * 400) for index in range(3)]
    assert_refused(opening(_with_setting(*items)), "claims 400 items")


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    assert_refused(lambda: open_gguf(tmp_path / "none.gguf"), "no file")
    assert_refused(lambda: open_gguf(tmp_path), "not a plain file")
    assert_refused(lambda: open_gguf(Path("/dev/zero")), "not a plain file")


def test_a_huge_claim_in_a_sparse_file_takes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with path.open("wb") as file:
        file.write(RawGguf(entries=[entry("w", (2**20, 2**18), 0, 0)]).make())
        file.truncate(2**40 + 2**20)
    opened = open_gguf(path)
    np.testing.assert_array_equal(opened.read("w", slice(2**18 - 1, None)), np.zeros((1, 2**20)))
    with path.open("r+b") as file:
        file.truncate(2**39)
    assert_refused(lambda: open_gguf(path), "ends before")
    keys = struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", 9, 8, gguf_header.ITEMS_MAX)
    with path.open("wb") as file:
        file.write(b"GGUF" + keys)
        file.truncate(2**30)
    with pytest.raises(ModelFormatError, match="names no general"):
        open_gguf(path)


@given(edits(len(VALID)))
@settings(max_examples=600)
def test_nothing_but_our_error_comes_of_damaged_bytes(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Edit]
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(apply(VALID, changes))
    try:
        opened = open_gguf(path)
    except ModelFormatError:
        return
    finally:
        path.unlink()
    for name in opened.names():
        try:
            if opened.get_form(name) in BLOCK_FORMS:
                blocks = opened.read_blocks(name)
                assert np.isfinite(blocks.scale).all()
            values = opened.read(name)
        except ModelFormatError:
            continue
        assert values.shape == opened.get_shape(name)
        assert np.isfinite(values).all()
