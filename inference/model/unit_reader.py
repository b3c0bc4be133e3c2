"""Reads stored tensors back from a unit file: mapped arrays, and the values they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from inference.model.checkpoint.source import Values
from inference.model.forms import Array, unpack_rows
from inference.model.layout import StoredTensor


def map_arrays(path: Path, tensor: StoredTensor) -> Mapping[str, Array]:
    """The arrays of a tensor, mapped: pages are read when they are touched. Raises OSError or ValueError."""
    return {
        one.name: np.memmap(path, dtype=one.dtype, mode="r", offset=one.offset, shape=one.shape)
        for one in tensor.arrays
    }


def read_values(path: Path, tensor: StoredTensor) -> dict[str, Values]:
    """The fp32 values of each part of a tensor: [N, K], or [n] of a vector."""
    values = unpack_rows(tensor.form, tensor.role, map_arrays(path, tensor))
    ends = np.cumsum([one.shape[0] for one in tensor.parts])
    return dict(zip((one.name for one in tensor.parts), np.split(values, ends[:-1]), strict=True))
