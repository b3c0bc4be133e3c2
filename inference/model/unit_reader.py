"""Maps stored tensors of a unit file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from inference.model.forms import Array
from inference.model.layout import StoredTensor


def map_arrays(path: Path, tensor: StoredTensor) -> Mapping[str, Array]:
    """The arrays of a tensor, mapped: pages are read when they are touched. Raises OSError or ValueError."""
    return {
        one.name: np.memmap(path, dtype=one.dtype, mode="r", offset=one.offset, shape=one.shape)
        for one in tensor.arrays
    }
