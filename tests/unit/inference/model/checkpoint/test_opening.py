"""What lies at a path decides how it is opened."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType as Kind

from inference.model.checkpoint.gguf_file import GgufFile
from inference.model.checkpoint.hf_directory import HfDirectory
from inference.model.checkpoint.opening import open_checkpoint
from tests.unit.inference.model.checkpoint.bounds import assert_refused
from tests.unit.inference.model.checkpoint.raw_gguf import ARCHITECTURE, RawGguf, V, setting
from tests.unit.inference.model.checkpoint.raw_safetensors import store, write_directory

TENSORS = {"w": store(np.ones((2, 2), np.float32))}
GGUF = RawGguf().add("w", (2, 2), Kind.F32, bytes(16)).make()


def _write_parts(directory: Path) -> None:
    for index in range(2):
        keys = [setting("split.no", V.UINT16, index), setting("split.count", V.UINT16, 2)]
        keys.append(setting("split.tensors.count", V.INT32, 2))
        part = RawGguf([ARCHITECTURE, *keys]).add(f"t{index}", (4,), Kind.F32, bytes(16))
        (directory / f"m-{index + 1:05}-of-00002.gguf").write_bytes(part.make())


def test_a_file_is_opened_by_its_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(GGUF)
    assert isinstance(open_checkpoint(path), GgufFile)


def test_a_directory_of_safetensors(tmp_path: Path) -> None:
    path = write_directory(tmp_path, TENSORS)
    (path / "beside.gguf").write_bytes(GGUF)
    assert isinstance(open_checkpoint(path), HfDirectory)


def test_a_directory_of_one_gguf(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "m.gguf").write_bytes(GGUF)
    opened = open_checkpoint(tmp_path)
    assert isinstance(opened, GgufFile)
    assert opened.path == tmp_path / "m.gguf"


def test_a_directory_of_parts(tmp_path: Path) -> None:
    _write_parts(tmp_path)
    assert open_checkpoint(tmp_path).names() == {"t0", "t1"}
    (tmp_path / "m.gguf").write_bytes(GGUF)
    assert_refused(lambda: open_checkpoint(tmp_path), r"holds 2 models \(m in 00002 parts, m\.gguf\)")


def test_what_is_no_checkpoint_says_what_was_found(tmp_path: Path) -> None:
    assert_refused(lambda: open_checkpoint(tmp_path / "none"), "no file or directory")
    assert_refused(lambda: open_checkpoint(tmp_path), "neither a GGUF file nor model")
    assert_refused(lambda: open_checkpoint(Path("/dev/null")), "no file or directory")
    path = write_directory(tmp_path / "m", TENSORS)
    assert_refused(lambda: open_checkpoint(path / "model.safetensors"), "give the directory that holds both")
    (tmp_path / "x.bin").write_bytes(b"PK\x03\x04")
    assert_refused(lambda: open_checkpoint(tmp_path / "x.bin"), "no GGUF file")
    (path / "model.safetensors").rename(path / "pytorch_model.bin")
    assert_refused(lambda: open_checkpoint(path), "a pickle")


@pytest.mark.parametrize("data", [b"", b"GG", b"GGUF"])
def test_a_short_file_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "m.gguf").write_bytes(data)
    assert_refused(lambda: open_checkpoint(tmp_path / "m.gguf"), "no GGUF file|too short")
