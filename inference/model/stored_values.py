"""The values of stored tensors: what kernels must compute with. For doctored copies and tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inference.model.checkpoint.source import Values
from inference.model.forms import unpack_rows
from inference.model.layout import StoredTensor
from inference.model.unit_reader import map_arrays


def read_values(path: Path, tensor: StoredTensor) -> dict[str, Values]:
    """The fp32 values of each part of a tensor: [N, K], or [n] of a vector."""
    values = unpack_rows(tensor.form, tensor.role, map_arrays(path, tensor))
    ends = np.cumsum([one.shape[0] for one in tensor.parts])
    return dict(zip((one.name for one in tensor.parts), np.split(values, ends[:-1]), strict=True))
