"""What a graph is built for: the kernels that ONNX Runtime has differ by processor."""

from __future__ import annotations

import enum


class Provider(enum.Enum):
    """A kind of processor, by the name it has in options and manifests."""

    CPU = "cpu"
    CUDA = "cuda"
