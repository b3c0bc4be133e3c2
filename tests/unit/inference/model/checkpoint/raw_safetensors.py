"""Writes directories of Hugging Face byte by byte, so that each field can be wrong."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Stored = tuple[str, tuple[int, ...], bytes]
CONFIG = {"model_type": "llama", "hidden_size": 8}


def store(values: NDArray[np.generic], dtype: str = "F32") -> Stored:
    """An array as a tensor of the dtype whose items it holds."""
    return dtype, values.shape, np.ascontiguousarray(values).tobytes()


def make_entries(tensors: Mapping[str, Stored]) -> dict[str, dict[str, object]]:
    """The header of tensors one after another."""
    entries: dict[str, dict[str, object]] = {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    return entries


def join(header: object, data: bytes) -> bytes:
    """A file of a header, given as an object or as bytes, and the tensors' bytes."""
    encoded = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(encoded)) + encoded + data


def make_file(tensors: Mapping[str, Stored]) -> bytes:
    """A whole file."""
    return join(
        {"__metadata__": {"format": "pt"}, **make_entries(tensors)}, b"".join(one[2] for one in tensors.values())
    )


def write_directory(
    path: Path, tensors: Mapping[str, Stored], config: Mapping[str, object] | None = None, *, shards: int = 0
) -> Path:
    """A directory with config.json and the tensors, in one file or dealt out to shards with an index."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    if not shards:
        (path / "model.safetensors").write_bytes(make_file(tensors))
        return path
    weight_map = {}
    for index in range(shards):
        file = f"model-{index + 1:05}-of-{shards:05}.safetensors"
        dealt = dict(list(tensors.items())[index::shards])
        (path / file).write_bytes(make_file(dealt))
        weight_map |= dict.fromkeys(dealt, file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path
