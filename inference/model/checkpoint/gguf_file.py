"""A GGUF checkpoint, in one file or in parts, as a `Checkpoint`. Knows the format and nothing of families or graphs."""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize
from numpy.typing import NDArray

from inference.errors import ModelFormatError
from inference.model.checkpoint.gguf_blocks import BLOCK_TYPES
from inference.model.checkpoint.gguf_header import FIXED_BYTES, GgufHeader, GgufTensor, scan_header
from inference.model.checkpoint.mapping import map_file
from inference.model.checkpoint.source import Blocks, Codes, Values
from proto_specs.types.manifest import Form

PARTS_MAX = 512
SCALE_MAX = 2.0**100
"""Beyond every scale of a model, and within fp32 after it is multiplied by a code."""
PART_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")
_KIND = GGMLQuantizationType
_PLAIN_FORMS = {_KIND.F32: Form.FP32, _KIND.F16: Form.FP16, _KIND.BF16: Form.BF16}
_ITEM_TYPES = {_KIND.F32: "<f4", _KIND.F16: "<f2", _KIND.BF16: "<u2"}
_MIDDLE_OF_4_BITS = 8
_Number = TypeVar("_Number", np.uint8, np.float32)
# Types without an exact integer form, whose values gguf computes.
_OTHER_TYPES = frozenset(
    getattr(_KIND, name)
    for name in ("TQ1_0", "TQ2_0", "NVFP4", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
    if hasattr(_KIND, name)
)


@dataclass(frozen=True)
class _MappedTensor:
    """A tensor and the map of the part it lies in."""

    tensor: GgufTensor
    data: mmap.mmap


class GgufFile:
    """An open GGUF checkpoint: `Checkpoint`. The files stay mapped; values are computed from the rows asked for."""

    is_gguf = True

    def __init__(self, path: Path, settings: Mapping[str, object], places: Mapping[str, _MappedTensor]) -> None:
        self.path = path
        self.settings = settings
        kind, name = settings.get("general.architecture"), settings.get("general.name")
        if not isinstance(kind, str) or not kind:
            raise ModelFormatError(f"{path.name} names no general.architecture: convert it again with llama.cpp")
        part = PART_NAME.fullmatch(path.name)
        self.kind = kind
        self.name = name if isinstance(name, str) and name.strip() else part["stem"] if part else path.stem
        self._places = places

    def names(self) -> frozenset[str]:
        """Every tensor there is."""
        return frozenset(self._places)

    def get_shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape, [..., out, in]. Raises ModelFormatError for a tensor that is absent."""
        return self._get_place(name).tensor.shape

    def get_form(self, name: str) -> Form:
        """The form of the tensor's own type. Raises ModelFormatError for a type whose values cannot be computed."""
        tensor = self._get_place(name).tensor
        if tensor.kind in _PLAIN_FORMS:
            return _PLAIN_FORMS[tensor.kind]
        if tensor.kind in BLOCK_TYPES:
            return BLOCK_TYPES[tensor.kind].form if len(tensor.shape) > 1 else Form.FP32
        if tensor.kind in _OTHER_TYPES:
            return Form.FP32
        raise ModelFormatError(
            f"{name} is of type {tensor.kind.name}, no type of weights: quantise the model otherwise"
        )

    def read(self, name: str, rows: slice = slice(None)) -> Values:
        """fp32 values of rows along the first axis, bit by bit those of llama.cpp's reference."""
        place = self._get_place(name)
        tensor = place.tensor
        self.get_form(name)
        with np.errstate(all="ignore"):  # what is no number is refused below
            if len(tensor.shape) == 1 and tensor.kind not in _PLAIN_FORMS:  # one row of blocks, which no slice can cut
                values = self._dequantize(place, slice(None))[rows]
            else:
                values = self._dequantize(place, rows)
        if not np.isfinite(values).all():
            raise ModelFormatError(f"{name} in {self.path.name} holds NaN or infinity: it is damaged, fetch it again")
        return values

    def read_blocks(self, name: str, rows: slice = slice(None)) -> Blocks:
        """Rows in the block form that `get_form` names. Of experts, every row of the experts asked for."""
        place = self._get_place(name)
        assert len(place.tensor.shape) > 1, f"{name} is a vector"
        codes, scale, low = self._unpack(place, rows)
        zero = BLOCK_TYPES[place.tensor.kind].zero
        if low is None or zero:
            return Blocks(codes, scale, low)
        # Codes from zero upwards: the offset takes in what the middle subtracts, rounded once.
        offset = low.astype(np.float64) + _MIDDLE_OF_4_BITS * scale.astype(np.float64)
        return Blocks(codes, scale, offset.astype(np.float32))

    def _get_place(self, name: str) -> _MappedTensor:
        place = self._places.get(name)
        if place is None:
            raise ModelFormatError(f"{self.path.name} lacks the tensor {name}: it is incomplete, fetch it again")
        return place

    def _dequantize(self, place: _MappedTensor, rows: slice) -> Values:
        """fp32 values of rows along the first axis; of a quantised vector, all."""
        tensor = place.tensor
        if tensor.kind in BLOCK_TYPES:
            codes, scale, low = self._unpack(place, rows)
            numbers = codes.reshape(*scale.shape, codes.shape[1] // scale.shape[1]).astype(np.float32)
            numbers -= BLOCK_TYPES[tensor.kind].zero
            numbers *= scale[..., None]
            if low is not None:
                numbers += low[..., None]
        elif tensor.kind is _KIND.BF16:
            numbers = (_read_raw(place, rows).view("<u2").astype(np.uint32) << 16).view(np.float32)
        elif tensor.kind in _ITEM_TYPES:
            numbers = _read_raw(place, rows).view(_ITEM_TYPES[tensor.kind]).astype(np.float32)
        else:
            raw = _read_raw(place, rows)
            numbers = dequantize(raw, tensor.kind) if raw.size else np.empty(0, np.float32)
        inner = tensor.shape[1:]
        return numbers.reshape(numbers.size // math.prod(inner), *inner)

    def _unpack(self, place: _MappedTensor, rows: slice) -> tuple[Codes, Values, Values | None]:
        """Codes [N, K], scale and low [N, scales of a row], checked to be finite."""
        tensor = place.tensor
        block, block_bytes = GGML_QUANT_SIZES[tensor.kind]
        raw, blocks = _read_raw(place, rows), tensor.shape[-1] // block
        count = raw.size // (blocks * block_bytes)
        with np.errstate(all="ignore"):
            codes, scale, low = BLOCK_TYPES[tensor.kind].unpack(raw.reshape(count, blocks, block_bytes))
        for numbers in (scale, low):
            if numbers is not None and not (np.abs(numbers) <= SCALE_MAX).all():
                raise ModelFormatError(
                    f"{tensor.name} in {self.path.name} has a scale that is no number or absurd: "
                    "it is damaged, fetch it again"
                )
        return _join_blocks(codes), _join_blocks(scale), None if low is None else _join_blocks(low)


def open_gguf(path: Path) -> GgufFile:
    """Open a GGUF file, or all its parts when it is one of `NAME-00001-of-000NN.gguf`.

    Raises ModelFormatError for a file that is damaged, of another version or byte order, or whose parts do not fit.
    """
    data = map_file(path, FIXED_BYTES)
    header = scan_header(data, path.name)
    name = PART_NAME.fullmatch(path.name)
    count = header.settings.get("split.count", 1)
    if type(count) is not int or not 0 <= count <= PARTS_MAX:
        raise ModelFormatError(f"{path.name} claims to be one of {count!r} parts: it is damaged, fetch it again")
    if count <= 1:
        if name and int(name["count"]) != 1:
            raise ModelFormatError(f"{path.name} is named as a part and is none: give the whole file its own name")
        return GgufFile(path, header.settings, _place(header, data))
    if not name or int(name["count"]) != count:
        raise ModelFormatError(
            f"{path.name} is one of {count} parts: name them NAME-00001-of-{count:05}.gguf and so on"
        )
    return _open_parts(path, name["stem"], count)


def _open_parts(path: Path, stem: str, count: int) -> GgufFile:
    places: dict[str, _MappedTensor] = {}
    first: GgufHeader | None = None
    for index in range(count):
        part = path.with_name(f"{stem}-{index + 1:05}-of-{count:05}.gguf")
        data = map_file(part, FIXED_BYTES)
        header = scan_header(data, part.name)
        first = first or header
        if header.settings.get("split.no") != index or header.settings.get("split.count") != count:
            raise ModelFormatError(f"{part.name} says that it is another part: fetch the parts again")
        found = _place(header, data)
        if not places.keys().isdisjoint(found):
            raise ModelFormatError(f"{part.name} repeats a tensor of another part: fetch the parts again")
        places |= found
    assert first is not None, "there are two parts or more"
    if first.settings.get("split.tensors.count") != len(places):
        raise ModelFormatError(f"the parts of {stem} do not hold the tensors that they state: fetch them again")
    return GgufFile(path, first.settings, places)


def _place(header: GgufHeader, data: mmap.mmap) -> dict[str, _MappedTensor]:
    return {one.name: _MappedTensor(one, data) for one in header.tensors}


def _join_blocks(parts: NDArray[_Number]) -> NDArray[_Number]:
    """[N, blocks, n] becomes [N, blocks x n]."""
    return np.ascontiguousarray(parts.reshape(len(parts), parts.shape[1] * parts.shape[2]))


def _read_raw(place: _MappedTensor, rows: slice) -> NDArray[np.uint8]:
    """Bytes of rows along the first axis. Of quantised vectors, all."""
    tensor = place.tensor
    count = tensor.shape[0] if len(tensor.shape) > 1 or tensor.kind in _PLAIN_FORMS else 1
    start, stop, step = rows.indices(count)
    assert step == 1, "rows are consecutive"
    width = tensor.size // count
    return np.frombuffer(place.data, np.uint8, max(0, stop - start) * width, tensor.offset + start * width)
