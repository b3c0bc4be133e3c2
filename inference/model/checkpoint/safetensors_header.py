"""Scans the header of a safetensors file within bounds of memory and time. Knows nothing of tensors' values.

Layout (the format's README): the header's length as 8 bytes, the header as JSON, then the tensors' bytes without holes.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass

from inference.errors import ModelFormatError
from inference.model.checkpoint.bounded_json import JSON_BYTES_MAX, parse_object

LENGTH_BYTES = 8
DIMENSIONS_MAX = 8
ITEM_BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F64": 8, "BOOL": 1}
ITEM_BYTES |= {"U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8, "F8_E8M0": 1}
_METADATA = "__metadata__"


@dataclass(frozen=True)
class SafeTensor:
    """Where a tensor lies in its file: `offset` from the file's start, `size` in bytes; `shape` is [..., out, in]."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


def scan_safetensors(data: mmap.mmap | bytes, name: str) -> tuple[SafeTensor, ...]:
    """Every tensor, in the order of their bytes. Raises ModelFormatError, naming the file, unless it is whole."""
    if len(data) < LENGTH_BYTES:
        raise _refuse(name, "ends within its header")
    (length,) = struct.unpack_from("<Q", data)
    if length > JSON_BYTES_MAX:
        raise _refuse(name, f"claims a header of {length} bytes")
    start = LENGTH_BYTES + length
    if start > len(data):
        raise _refuse(name, "ends within its header")
    header = parse_object(data[LENGTH_BYTES:start], f"the header of {name}")
    header.pop(_METADATA, None)
    if not header:
        raise _refuse(name, "holds no tensor")
    tensors = [_parse_entry(name, key, entry, start) for key, entry in header.items()]
    end = start
    for one in sorted(tensors, key=lambda tensor: tensor.offset):
        if one.offset != end:
            raise _refuse(name, f"puts {one.name!r:.80} over another tensor or behind a hole")
        end += one.size
    if end != len(data):
        raise _refuse(name, f"is {len(data)} bytes long where its tensors end at {end}")
    return tuple(sorted(tensors, key=lambda tensor: tensor.offset))


def _parse_entry(file: str, name: str, entry: object, start: int) -> SafeTensor:
    if not name or not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _refuse(file, f"does not say where {name[:80]!r} lies")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ModelFormatError(f"{name[:80]!r} in {file} has the unknown dtype {str(dtype)[:40]!r}: save it as BF16")
    if not _is_counts(shape) or not _is_counts(offsets) or len(offsets) != 2 or len(shape) > DIMENSIONS_MAX:
        raise _refuse(file, f"gives {name[:80]!r} a shape or place that is no list of counts")
    begin, end = offsets
    size = math.prod(shape) * ITEM_BYTES[dtype]
    if end - begin != size or not size:
        raise _refuse(file, f"gives {name[:80]!r} {end - begin} bytes where its shape needs {size}")
    return SafeTensor(name, dtype, tuple(shape), start + begin, size)


def _is_counts(value: object) -> bool:
    return isinstance(value, list) and all(type(one) is int and one >= 0 for one in value)


def _refuse(file: str, finding: str) -> ModelFormatError:
    return ModelFormatError(f"{file} {finding}: it is damaged, fetch it again")
