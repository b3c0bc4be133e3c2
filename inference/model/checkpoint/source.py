"""What an import asks of a checkpoint, whatever its format: settings, tensors by name, values in their exact form.

Knows no file format, no family and no graph. `gguf_file.py` and `hf_directory.py` implement it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from proto_specs.types.manifest import Form

Values = NDArray[np.float32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class Blocks:
    """N rows of a block-quantised matrix with K columns, at their exact values.

    weight[n, k] = scale[n, k // block] * (codes[n, k] - middle) + offset[n, k // block], where the middle is 8 for
    codes of 4 bits (0..15, one per byte here) and 128 for codes of 8 bits; no offset is zero. Of F8_B128, codes are
    floats (e4m3fn), times their scale.
    """

    codes: Codes  # [N, K]
    scale: Values  # [N, K / block]
    offset: Values | None  # [N, K / block]


class Checkpoint(Protocol):
    """An open checkpoint. Shapes are [out, in], as the model's own code has them; experts' are [experts, out, in].

    Every method raises ModelFormatError, in one line with what to do, for a tensor that is absent, damaged, holds NaN
    or infinity, or is larger than its file: before any memory is taken for it.
    """

    path: Path
    name: str
    """The model's name as the checkpoint states it, else the file's or directory's."""
    settings: Mapping[str, object]
    """GGUF: every metadata key with its value. Hugging Face: config.json, with `text_config` of multimodal files."""
    kind: str
    """`settings["general.architecture"]` of GGUF, `model_type` of Hugging Face."""

    is_gguf: bool
    """Whether it names things as GGUF does."""

    def names(self) -> frozenset[str]:
        """Every tensor there is, quantisation scales of another tensor left out."""

    def get_shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""

    def get_form(self, name: str) -> Form:
        """The form that holds the tensor's exact values in the least bytes, FP32 when none of the others can."""

    def read(self, name: str, rows: slice = slice(None)) -> Values:
        """fp32 values of some rows along the first axis."""

    def read_blocks(self, name: str, rows: slice = slice(None)) -> Blocks:
        """Rows of a matrix of a block form, as `get_form` names it; of experts, N counts the rows of all those read."""
