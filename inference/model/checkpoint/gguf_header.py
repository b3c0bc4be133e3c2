"""Scans the header of a GGUF file, version 2 or 3, within bounds of memory and time. Knows nothing of tensors' values.

Layout (the format's specification, docs/gguf.md of ggml): magic, version, counts of tensors and of keys, the keys with
their values, the tensors with shape, type and offset, padding, then the tensors' bytes.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from inference.errors import ModelFormatError

MAGIC = b"GGUF"
HEADER_BYTES_MAX = 64 << 20
"""A vocabulary of 262144 tokens takes 7 MiB, one of 200000 with its merges 15 MiB."""
ITEMS_MAX = 1 << 22
"""Items of all arrays of a header together: what a Python object is made for."""
SETTINGS_MAX = 1 << 14
TENSORS_MAX = 1 << 17
NAME_BYTES_MAX = 1 << 10
DIMENSIONS_MAX = 4
ALIGNMENT_MAX = 1 << 20
FIXED_BYTES = 24  # magic, version and the two counts
_ALIGNMENT_DEFAULT = 32
_VERSIONS = (2, 3)
_KEY_BYTES_MIN = 8 + 1 + 4 + 1
_TENSOR_BYTES_MIN = 8 + 1 + 4 + 8 + 4 + 8

_BOOL, _STRING, _ARRAY = 7, 8, 9
_SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", _BOOL: "<u1"}
_SCALARS |= {10: "<u8", 11: "<i8", 12: "<f8"}
_FLOATS = (6, 12)
_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies in its file: `offset` from the file's start, `size` in bytes; `shape` is [..., out, in]."""

    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    offset: int
    size: int


@dataclass(frozen=True)
class GgufHeader:
    """Every key with its value as a Python value (arrays as lists), and the tensors in the order of the file."""

    settings: dict[str, object]
    tensors: tuple[GgufTensor, ...]


def scan_header(data: mmap.mmap | bytes, name: str) -> GgufHeader:
    """Raises ModelFormatError, naming the file, for everything that is not a whole and consistent GGUF file."""
    cursor = _Cursor(data, name)
    tensors, keys = _scan_counts(cursor)
    settings: dict[str, object] = {}
    for _ in range(keys):
        key = cursor.take_text(NAME_BYTES_MAX, "key")
        if key in settings:
            raise cursor.refuse(f"states the key {key!r:.80} twice")
        settings[key] = _scan_value(cursor, key)
    alignment = settings.get("general.alignment", _ALIGNMENT_DEFAULT)
    if type(alignment) is not int or not 1 <= alignment <= ALIGNMENT_MAX or alignment & (alignment - 1):
        raise cursor.refuse("has a general.alignment that is not a power of two")
    found = [_scan_tensor(cursor) for _ in range(tensors)]
    start = -(-cursor.at // alignment) * alignment
    return GgufHeader(settings, _place_tensors(cursor, found, start, alignment))


class _Cursor:
    """A position in the header. Nothing beyond the file's end or HEADER_BYTES_MAX is read."""

    def __init__(self, data: mmap.mmap | bytes, name: str) -> None:
        self.data, self.size = data, len(data)
        self.at = 0
        self.items_left = ITEMS_MAX
        self._name = name

    def refuse(self, finding: str) -> ModelFormatError:
        return ModelFormatError(f"{self._name} {finding}: it is damaged, fetch it again")

    def advance(self, size: int) -> int:
        """Where the next `size` bytes start; the position moves behind them."""
        start, end = self.at, self.at + size
        if end > self.size:
            raise self.refuse("ends within its header")
        if end > HEADER_BYTES_MAX:
            raise self.refuse(f"has a header of more than {HEADER_BYTES_MAX >> 20} MiB")
        self.at = end
        return start

    def take_u32(self) -> int:
        return int(_U32.unpack_from(self.data, self.advance(4))[0])

    def take_u64(self) -> int:
        return int(_U64.unpack_from(self.data, self.advance(8))[0])

    def take_text(self, bytes_max: int, what: str) -> str:
        size = self.take_u64()
        if not 1 <= size <= bytes_max:
            raise self.refuse(f"has a {what} of {size} bytes")
        return self.decode(self.advance(size))

    def decode(self, start: int) -> str:
        """The text from `start` to the position."""
        try:
            return self.data[start : self.at].decode()
        except UnicodeDecodeError as error:
            raise self.refuse("holds text that is not UTF-8") from error

    def check_count(self, count: int, bytes_min: int, most: int, what: str) -> None:
        """Raises ModelFormatError unless `count` things of `bytes_min` each fit what is left of the file."""
        if count > most or count * bytes_min > self.size - self.at:
            raise self.refuse(f"claims {count} {what}, more than it can hold")


def _scan_counts(cursor: _Cursor) -> tuple[int, int]:
    if cursor.data[:4] != MAGIC:
        raise cursor.refuse("is no GGUF file")
    cursor.advance(4)
    version = cursor.take_u32()
    if version and not version & 0xFFFF:
        raise ModelFormatError("the GGUF file is big-endian, which is not supported: convert it again, little-endian")
    if version not in _VERSIONS:
        raise ModelFormatError(f"GGUF version {version} is not supported: convert it again with a current llama.cpp")
    tensors, keys = cursor.take_u64(), cursor.take_u64()
    cursor.check_count(keys, _KEY_BYTES_MIN, SETTINGS_MAX, "keys")
    cursor.check_count(tensors, _TENSOR_BYTES_MIN, TENSORS_MAX, "tensors")
    return tensors, keys


def _scan_value(cursor: _Cursor, key: str) -> object:
    kind = cursor.take_u32()
    if kind == _STRING:
        size = cursor.take_u64()
        return cursor.decode(cursor.advance(size))
    if kind != _ARRAY:
        value = _scan_numbers(cursor, kind, 1)[0]
        if kind in _FLOATS and not math.isfinite(value):
            raise cursor.refuse(f"states {value} for {key!r:.80}")
        return value
    kind, count = cursor.take_u32(), cursor.take_u64()
    if kind == _ARRAY:
        raise cursor.refuse(f"has an array of arrays for {key!r:.80}")
    if count > cursor.items_left:
        raise cursor.refuse(f"claims {count} items for {key!r:.80}, more than a header may have")
    cursor.items_left -= count
    return _scan_texts(cursor, count) if kind == _STRING else _scan_numbers(cursor, kind, count)


def _scan_numbers(cursor: _Cursor, kind: int, count: int) -> list[float]:
    if kind not in _SCALARS:
        raise cursor.refuse(f"has a value of the unknown type {kind}")
    item = np.dtype(_SCALARS[kind])
    start = cursor.advance(count * item.itemsize)
    numbers = np.frombuffer(cursor.data[start : cursor.at], item)
    if kind != _BOOL:
        return list(numbers.tolist())
    if numbers.size and numbers.max() > 1:
        raise cursor.refuse("has a truth value that is neither 0 nor 1")
    return list(numbers.astype(np.bool_).tolist())


def _scan_texts(cursor: _Cursor, count: int) -> list[str]:
    """The hot loop of opening a file: a vocabulary and its merges are up to a million texts."""
    cursor.check_count(count, _U64.size, ITEMS_MAX, "texts")
    data, at, end = cursor.data, cursor.at, min(cursor.size, HEADER_BYTES_MAX)
    unpack = _U64.unpack_from
    texts: list[str] = []
    try:
        for _ in range(count):
            start = at + 8
            if start > end:
                break
            at = start + unpack(data, at)[0]
            if at > end:
                break
            texts.append(data[start:at].decode())
    except UnicodeDecodeError as error:
        raise cursor.refuse("holds text that is not UTF-8") from error
    if len(texts) < count:
        raise cursor.refuse("ends within its header, or has too long a one,")
    cursor.at = at
    return texts


def _scan_tensor(cursor: _Cursor) -> GgufTensor:
    """A tensor with `offset` as stated: from the start of the tensors' bytes."""
    name = cursor.take_text(NAME_BYTES_MAX, "tensor's name")
    count = cursor.take_u32()
    if not 1 <= count <= DIMENSIONS_MAX:
        raise cursor.refuse(f"gives {name!r:.80} {count} dimensions")
    shape = tuple(cursor.take_u64() for _ in range(count))[::-1]
    number, offset = cursor.take_u32(), cursor.take_u64()
    try:
        kind = GGMLQuantizationType(number)
        block, block_bytes = GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError) as error:
        raise ModelFormatError(f"{name!r:.80} has the unknown type {number}: quantise it to a type of 2025") from error
    if shape[-1] % block:
        raise cursor.refuse(f"has rows of {shape[-1]} values in {name!r:.80}, not whole blocks of {kind.name}")
    return GgufTensor(name, kind, shape, offset, math.prod(shape) // block * block_bytes)


def _place_tensors(cursor: _Cursor, tensors: list[GgufTensor], start: int, alignment: int) -> tuple[GgufTensor, ...]:
    """Offsets become the file's. Every tensor must lie in the file, by its own."""
    placed = [GgufTensor(one.name, one.kind, one.shape, start + one.offset, one.size) for one in tensors]
    if len({one.name for one in placed}) < len(placed):
        raise cursor.refuse("holds two tensors of one name")
    end = start
    for one in sorted(placed, key=lambda tensor: tensor.offset):
        if not one.size:
            raise cursor.refuse(f"gives {one.name!r:.80} no values")
        if (one.offset - start) % alignment or one.offset < end:
            raise cursor.refuse(f"puts {one.name!r:.80} where another tensor or no tensor can be")
        end = one.offset + one.size
        if end > cursor.size:
            raise cursor.refuse(f"ends before {one.name!r:.80} does")
    return tuple(placed)
