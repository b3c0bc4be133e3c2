"""Published GGUF files, where they lie on this machine: every tensor against gguf's own dequantisation."""

from __future__ import annotations

import os
from pathlib import Path

import gguf
import numpy as np
import pytest

from inference.model.checkpoint.gguf_file import open_gguf
from proto_specs.types.manifest import Form

# More files for this test, by their paths.
PATHS = [Path("~/.cache/myelin/SmolLM2-135M-Instruct.Q4_1.gguf").expanduser()]
PATHS += [Path(one) for one in os.environ.get("MYELIN_TEST_GGUF", "").split(os.pathsep) if one]


@pytest.mark.slow
@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.name)
def test_every_tensor_has_the_values_of_gguf(path: Path) -> None:
    if not path.exists():
        pytest.skip(f"no {path.name} on this machine")
    opened, reader = open_gguf(path), gguf.GGUFReader(path)
    assert opened.settings == {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    assert opened.names() == {one.name for one in reader.tensors}
    for one in reader.tensors:
        wanted = gguf.quants.dequantize(one.data, one.tensor_type)
        np.testing.assert_array_equal(opened.read(one.name).view(np.uint32), wanted.view(np.uint32))
        form = opened.get_form(one.name)
        if form in (Form.FP32, Form.FP16, Form.BF16):
            continue
        blocks = opened.read_blocks(one.name)
        size = blocks.codes.shape[1] // blocks.scale.shape[1]
        found = (blocks.codes.astype(np.float32) - (8 if "Q4" in form.name else 128)) * np.repeat(blocks.scale, size, 1)
        if blocks.offset is None:
            np.testing.assert_array_equal(found, wanted)
        else:
            offsets = np.repeat(blocks.offset, size, 1)
            larger = np.maximum(np.maximum(np.abs(found), np.abs(offsets)), np.abs(wanted))
            assert (np.abs(found + offsets - wanted) <= np.spacing(larger)).all()
