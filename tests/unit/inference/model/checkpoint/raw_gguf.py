"""Writes GGUF files byte by byte, so that each field can be wrong; and blocks of every type with plausible scales."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGUFValueType
from gguf.constants import GGMLQuantizationType as Kind
from numpy.typing import NDArray

V = GGUFValueType
_FORMATS = {V.UINT8: "B", V.INT8: "b", V.UINT16: "H", V.INT16: "h", V.UINT32: "I", V.INT32: "i"}
_FORMATS |= {V.FLOAT32: "f", V.BOOL: "?", V.UINT64: "Q", V.INT64: "q", V.FLOAT64: "d"}

# Where a block has fp16 numbers.
HALVES: dict[Kind, tuple[int, ...]] = {
    Kind.Q4_0: (0,),
    Kind.Q4_1: (0, 2),
    Kind.Q5_0: (0,),
    Kind.Q5_1: (0, 2),
    Kind.Q8_0: (0,),
    Kind.Q2_K: (80, 82),
    Kind.Q3_K: (108,),
    Kind.Q4_K: (0, 2),
    Kind.Q5_K: (0, 2),
    Kind.Q6_K: (208,),
    Kind.IQ4_NL: (0,),
    Kind.IQ4_XS: (0,),
    Kind.MXFP4: (),
    Kind.NVFP4: (),
    Kind.TQ1_0: (52,),
    Kind.TQ2_0: (64,),
    Kind.IQ1_S: (0,),
    Kind.IQ2_XXS: (0,),
    Kind.IQ2_XS: (0,),
    Kind.IQ2_S: (0,),
    Kind.IQ3_XXS: (0,),
    Kind.IQ3_S: (0,),
}


def text(value: str | bytes) -> bytes:
    """A GGUF string."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def pack(kind: GGUFValueType, value: object) -> bytes:
    """A value of a scalar type or a string."""
    if kind is V.STRING:
        assert isinstance(value, (str, bytes))
        return text(value)
    return struct.pack("<" + _FORMATS[kind], value)


def setting(key: str | bytes, kind: GGUFValueType, value: object) -> bytes:
    """A key with a scalar or a string."""
    return text(key) + struct.pack("<I", kind) + pack(kind, value)


def array(key: str, kind: GGUFValueType, values: list[object]) -> bytes:
    """A key with an array."""
    items = b"".join(pack(kind, value) for value in values)
    return text(key) + struct.pack("<IIQ", V.ARRAY, kind, len(values)) + items


def entry(name: str | bytes, dimensions: tuple[int, ...], kind: int, offset: int) -> bytes:
    """A tensor's entry; dimensions as in the file, innermost first."""
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


ARCHITECTURE = setting("general.architecture", V.STRING, "llama")


@dataclass
class RawGguf:
    """The pieces of a file. Counts are those of the lists unless given."""

    settings: list[bytes] = field(default_factory=lambda: [ARCHITECTURE])
    entries: list[bytes] = field(default_factory=list)
    data: bytes = b""
    magic: bytes = b"GGUF"
    version: int = 3
    tensors: int | None = None
    keys: int | None = None
    alignment: int = 32

    def add(self, name: str, shape: tuple[int, ...], kind: Kind, data: bytes) -> RawGguf:
        """Append a tensor of a shape [..., out, in]."""
        self.data += b"\0" * (-len(self.data) % self.alignment)
        self.entries.append(entry(name, shape[::-1], kind, len(self.data)))
        self.data += data
        return self

    def make(self) -> bytes:
        tensors = len(self.entries) if self.tensors is None else self.tensors
        keys = len(self.settings) if self.keys is None else self.keys
        head = self.magic + struct.pack("<IQQ", self.version, tensors, keys) + b"".join(self.settings + self.entries)
        return head + b"\0" * (-len(head) % self.alignment) + self.data


def make_blocks(kind: Kind, count: int, seed: int, *, wild: bool = False) -> NDArray[np.uint8]:
    """Random blocks [count, bytes]: fp16 scales near those of weights, or, where `wild`, any finite ones."""
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 256, (count, GGML_QUANT_SIZES[kind][1]), np.uint8)
    for at in HALVES.get(kind, ()):
        bits = rng.integers(0, 0x7C00, count).astype("<u2") | rng.integers(0, 2, count).astype("<u2") << 15
        halves = bits.view("<f2") if wild else rng.normal(0, 0.02, count).astype("<f2")
        blocks[:, at : at + 2] = halves.view(np.uint8).reshape(count, 2)
    if kind is Kind.MXFP4:
        blocks[:, 0] = rng.integers(0, 200, count) if wild else rng.integers(110, 130, count)
    if kind is Kind.IQ1_M:  # its scale is the top nibbles of the four last 16-bit numbers: keep it finite
        blocks[:, 55] &= 0x3F
    return blocks
