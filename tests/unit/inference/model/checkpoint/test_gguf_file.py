"""GGUF files as gguf's own writer makes them, whole and in parts, and the header of each compared with its reader."""

from __future__ import annotations

import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Kind

from inference.errors import ModelFormatError
from inference.model.checkpoint.gguf_file import open_gguf
from proto_specs.types.manifest import Form
from tests.unit.inference.model.checkpoint.raw_gguf import ARCHITECTURE, RawGguf, V, setting

STEM = "tiny-llama"


def _write(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
    writer.add_uint8("a.u8", 255)
    writer.add_int8("a.i8", -128)
    writer.add_uint16("a.u16", 65535)
    writer.add_int16("a.i16", -1)
    writer.add_uint32("a.u32", 2**32 - 1)
    writer.add_int32("a.i32", -(2**31))
    writer.add_uint64("a.u64", 2**64 - 1)
    writer.add_int64("a.i64", -(2**63))
    writer.add_float32("a.f32", 1e-5)
    writer.add_float64("a.f64", 1e-5)
    writer.add_bool("a.yes", True)
    writer.add_string("a.empty", "")
    writer.add_token_list(["<s>", "é", "日本", "\U0001f600", ""])
    writer.add_token_scores([0.0, -1.5, -np.inf, 3.25, 1e9])
    writer.add_array("a.flags", [True, False, True])
    weights = np.random.default_rng(0).normal(0, 1, (6, 64)).astype(np.float32)
    writer.add_tensor("plain", weights)
    writer.add_tensor("half", weights.astype(np.float16))
    writer.add_tensor("quantised", gguf.quants.quantize(weights, Kind.Q4_1), raw_dtype=Kind.Q4_1)
    writer.add_tensor("norm", weights[0])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _make_part(index: int, count: int, total: int, first: list[bytes], *, stated: int | None = None) -> bytes:
    settings = [
        *(first if index == 0 else []),
        setting("split.no", V.UINT16, index if stated is None else stated),
        setting("split.count", V.UINT16, count),
        setting("split.tensors.count", V.INT32, total),
    ]
    data = np.full((2, 4), index, np.float32).tobytes()
    return RawGguf(settings).add(f"t{index}", (2, 4), Kind.F32, data).make()


def _write_parts(directory: Path, count: int = 3, total: int = 3) -> list[Path]:
    paths = [directory / f"{STEM}-{index + 1:05}-of-{count:05}.gguf" for index in range(count)]
    for index, path in enumerate(paths):
        path.write_bytes(_make_part(index, count, total, [ARCHITECTURE]))
    return paths


def test_settings_and_tensors_are_those_of_gguf_own_reader(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.gguf")
    opened, reader = open_gguf(path), gguf.GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert opened.settings == fields
    assert {key: type(value) for key, value in opened.settings.items()} == {k: type(v) for k, v in fields.items()}
    assert opened.names() == {one.name for one in reader.tensors}
    for one in reader.tensors:
        assert opened.get_shape(one.name) == tuple(reversed(one.shape.tolist()))
        np.testing.assert_array_equal(opened.read(one.name), gguf.quants.dequantize(one.data, one.tensor_type))
    assert (opened.kind, opened.name, opened.path) == ("llama", "Tiny", path)
    forms = {"plain": Form.FP32, "half": Form.FP16, "quantised": Form.Q4_B32_MIN, "norm": Form.FP32}
    assert {name: opened.get_form(name) for name in opened.names()} == forms


def test_version_2_is_read_and_a_file_without_a_name_has_its_own(tmp_path: Path) -> None:
    path = tmp_path / "my-model.gguf"
    path.write_bytes(RawGguf(version=2).add("w", (2, 2), Kind.F32, bytes(16)).make())
    opened = open_gguf(path)
    assert opened.name == "my-model"
    np.testing.assert_array_equal(opened.read("w"), np.zeros((2, 2)))


def test_an_absent_tensor_is_a_finding(tmp_path: Path) -> None:
    opened = open_gguf(_write(tmp_path / "m.gguf"))
    for ask in (opened.get_shape, opened.get_form, opened.read, opened.read_blocks):
        with pytest.raises(ModelFormatError, match="lacks the tensor nothing"):
            ask("nothing")


@pytest.mark.parametrize("alignment", [8, 64, 4096])
def test_the_alignment_is_the_file_own(tmp_path: Path, alignment: int) -> None:
    raw = RawGguf([ARCHITECTURE, setting("general.alignment", V.UINT32, alignment)], alignment=alignment)
    for index in range(3):
        raw.add(f"t{index}", (3,), Kind.F32, np.full(3, index, np.float32).tobytes())
    (tmp_path / "m.gguf").write_bytes(raw.make())
    opened = open_gguf(tmp_path / "m.gguf")
    assert [opened.read(f"t{index}").tolist() for index in range(3)] == [[index] * 3 for index in range(3)]


@pytest.mark.parametrize("given", [0, 1, 2])
def test_any_part_opens_all(tmp_path: Path, given: int) -> None:
    opened = open_gguf(_write_parts(tmp_path)[given])
    assert opened.names() == {"t0", "t1", "t2"}
    assert (opened.kind, opened.name) == ("llama", STEM)
    for index in range(3):
        np.testing.assert_array_equal(opened.read(f"t{index}"), np.full((2, 4), index))


def test_parts_that_gguf_own_writer_makes(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(0, 1, (5, 4, 32)).astype(np.float32)
    writer = gguf.GGUFWriter(tmp_path / "m.gguf", "qwen2", split_max_tensors=2)
    for index, one in enumerate(weights):
        writer.add_tensor(f"blk.{index}", one)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 3
    opened = open_gguf(paths[1])
    assert (opened.kind, opened.name) == ("qwen2", "m")
    np.testing.assert_array_equal([opened.read(f"blk.{index}") for index in range(5)], weights)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    paths = _write_parts(tmp_path)
    paths[1].unlink()
    with pytest.raises(ModelFormatError, match=paths[1].name):
        open_gguf(paths[2])


def test_parts_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    paths = _write_parts(tmp_path)
    paths[1].write_bytes(_make_part(1, 3, 3, [ARCHITECTURE], stated=2))
    with pytest.raises(ModelFormatError, match="says that it is another part"):
        open_gguf(paths[0])
    paths[1].write_bytes(_make_part(1, 4, 3, [ARCHITECTURE]))
    with pytest.raises(ModelFormatError, match="says that it is another part"):
        open_gguf(paths[0])
    repeated = RawGguf([setting("split.no", V.UINT16, 1), setting("split.count", V.UINT16, 3)])
    paths[1].write_bytes(repeated.add("t0", (2,), Kind.F32, bytes(8)).make())
    with pytest.raises(ModelFormatError, match="repeats a tensor"):
        open_gguf(paths[0])


def test_parts_with_fewer_tensors_than_stated_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match="do not hold the tensors"):
        open_gguf(_write_parts(tmp_path, total=4)[0])


def test_a_part_under_another_name_is_refused(tmp_path: Path) -> None:
    paths = _write_parts(tmp_path)
    renamed = paths[0].rename(tmp_path / "model.gguf")
    with pytest.raises(ModelFormatError, match="one of 3 parts"):
        open_gguf(renamed)
    (tmp_path / "x-00001-of-00002.gguf").write_bytes(RawGguf().make())
    with pytest.raises(ModelFormatError, match="is named as a part and is none"):
        open_gguf(tmp_path / "x-00001-of-00002.gguf")


@pytest.mark.parametrize("count", [("split.count", V.UINT16, 60_000), ("split.count", V.STRING, "2")])
def test_an_absurd_count_of_parts_is_refused(tmp_path: Path, count: tuple[str, gguf.GGUFValueType, object]) -> None:
    path = tmp_path / "x-00001-of-60000.gguf"
    path.write_bytes(RawGguf([ARCHITECTURE, setting(*count)]).make())
    with pytest.raises(ModelFormatError, match="claims to be one of"):
        open_gguf(path)


def test_a_file_without_architecture_is_refused(tmp_path: Path) -> None:
    for settings in (
        [],
        [setting("general.architecture", V.UINT32, 3)],
        [setting("general.architecture", V.STRING, "")],
    ):
        (tmp_path / "m.gguf").write_bytes(RawGguf(settings).make())
        with pytest.raises(ModelFormatError, match="names no general"):
            open_gguf(tmp_path / "m.gguf")


def test_other_byte_orders_and_versions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    with pytest.raises(ModelFormatError, match="big-endian"):
        open_gguf(path)
    for version in (1, 4):
        path.write_bytes(RawGguf(version=version).make())
        with pytest.raises(ModelFormatError, match=f"version {version} is not supported"):
            open_gguf(path)
