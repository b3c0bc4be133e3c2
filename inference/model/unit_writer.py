"""Writes a weight unit: parts of a checkpoint, by blocks of rows, into the arrays of their stored tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray

from inference.errors import ModelFormatError
from inference.model.checkpoint.source import Blocks, Checkpoint, Values
from inference.model.families.family import Cut, Ref
from inference.model.forms import Array, Role, is_blocked, pack_blocks, pack_values
from inference.model.layout import Part, StoredTensor, can_hold, compute_unit_bytes
from proto_specs.types.manifest import Form

T = TypeVar("T", bound=np.generic)

BLOCK_VALUES = 1 << 23
"""Values that are read at a time: 32 MiB as fp32."""
_STACKS = (Role.EXPERTS, Role.HEADS)


def choose_form(checkpoint: Checkpoint, ref: Ref, part: Part) -> Form:
    """The form of a part: the checkpoint's own where the part can be stored in it, else fp32."""
    forms = {checkpoint.get_form(name) for name in ref.names}
    form = forms.pop() if len(forms) == 1 else Form.FP32
    is_plain = not ref.shift and can_hold(form, part)
    return form if is_plain else Form.FP32


def check_part(checkpoint: Checkpoint, ref: Ref, part: Part) -> None:
    """Raises ModelFormatError unless the checkpoint has the part's tensors in its shape."""
    names = checkpoint.names()
    for name in ref.names:
        if name not in names:
            raise ModelFormatError(f"{checkpoint.path.name} lacks the tensor {name}: it is incomplete, fetch it again")
        found, wanted = checkpoint.get_shape(name), _compute_source_shape(ref, part)
        if found != wanted:
            raise ModelFormatError(f"{name} has shape {found}, expected {wanted}: not a model of this family")


def _compute_source_shape(ref: Ref, part: Part) -> tuple[int, ...]:
    """The shape that each of the part's tensors has in the checkpoint."""
    if part.role not in _STACKS:
        return part.shape
    count, *matrix = part.shape
    if ref.cut:
        matrix = [ref.cut.of, matrix[0] if ref.cut.transposed else matrix[1]]
    if ref.cut and ref.cut.is_flat:
        return (count * matrix[0], matrix[1])
    return tuple(matrix) if len(ref.names) > 1 else (count, *matrix)


def write_unit(
    path: Path,
    tensors: Sequence[StoredTensor],
    checkpoint: Checkpoint,
    refs: Mapping[str, Ref],
    progress: Callable[[int], None],
) -> None:
    """Write the unit file of `tensors`; `refs` says by part where the checkpoint keeps it. Progress counts bytes.

    Memory is a few blocks of BLOCK_VALUES values, or a few matrices of an expert. Raises ModelFormatError for values
    that are damaged.
    """
    with path.open("wb") as file:
        file.truncate(compute_unit_bytes(tensors))
        for tensor in tensors:
            first = 0
            for part in tensor.parts:
                _write_part(file, tensor, part, first, checkpoint, refs[part.name], progress)
                first += part.rows


def _write_part(
    file: BinaryIO,
    tensor: StoredTensor,
    part: Part,
    first: int,
    checkpoint: Checkpoint,
    ref: Ref,
    progress: Callable[[int], None],
) -> None:
    """Writes a part's rows from row `first` of its tensor on."""
    read = _read_matrices if part.role in _STACKS else _read_rows
    for start, arrays in read(tensor, part, checkpoint, ref):
        for name, array in arrays.items():
            place = tensor.get_array(name)
            row_bytes = place.size // place.shape[0]
            file.seek(place.offset + (first + start) * row_bytes)
            progress(file.write(np.ascontiguousarray(array).data.cast("B")))


def _read_rows(
    tensor: StoredTensor, part: Part, checkpoint: Checkpoint, ref: Ref
) -> Iterator[tuple[int, dict[str, Array]]]:
    """A part's arrays, some rows at a time, each with its first row."""
    count = part.shape[0]
    head = count // ref.interleaved_heads if ref.interleaved_heads else 1
    step = max(1, BLOCK_VALUES // tensor.columns // head) * head
    for start in range(0, count, step):
        yield start, _read_arrays(tensor, checkpoint, ref, slice(start, min(start + step, count)), head)


def _read_matrices(
    tensor: StoredTensor, part: Part, checkpoint: Checkpoint, ref: Ref
) -> Iterator[tuple[int, dict[str, Array]]]:
    """The arrays of experts or heads, a matrix at a time, each with its first row among those of all."""
    count, rows, _ = part.shape
    cut = ref.cut or Cut(0, rows, rows)
    for place in range(count):
        inner = slice(None)
        if len(ref.names) > 1:
            name, outer = ref.names[place], slice(cut.start, cut.stop)
        elif cut.is_flat:
            name, outer = ref.names[0], slice(place * cut.of + cut.start, place * cut.of + cut.stop)
        else:
            name, outer, inner = ref.names[0], slice(place, place + 1), slice(cut.start, cut.stop)
        if is_blocked(tensor.form):
            whole = checkpoint.read_blocks(name, outer)
            offset = None if whole.offset is None else whole.offset[inner]
            blocks = Blocks(whole.codes[inner], whole.scale[inner], offset)
            yield place * rows, pack_blocks(tensor.form, tensor.role, blocks)
        else:
            values = checkpoint.read(name, outer)
            values = values[0][inner] if values.ndim > 2 else values
            yield place * rows, pack_values(tensor.form, np.ascontiguousarray(values.T) if cut.transposed else values)


def _read_arrays(tensor: StoredTensor, checkpoint: Checkpoint, ref: Ref, rows: slice, head: int) -> dict[str, Array]:
    (name,) = ref.names
    if is_blocked(tensor.form):
        blocks = checkpoint.read_blocks(name, rows)
        if ref.interleaved_heads:
            offset = None if blocks.offset is None else _separate_halves(blocks.offset, head)
            blocks = Blocks(_separate_halves(blocks.codes, head), _separate_halves(blocks.scale, head), offset)
        return pack_blocks(tensor.form, tensor.role, blocks)
    values: Values = checkpoint.read(name, rows)
    if ref.interleaved_heads:
        values = _separate_halves(values, head)
    return pack_values(tensor.form, values + np.float32(ref.shift) if ref.shift else values)


def _separate_halves(rows: NDArray[T], head: int) -> NDArray[T]:
    """Rows of heads whose two halves alternate, back to one half after the other."""
    pairs = rows.reshape(len(rows) // head, head // 2, 2, *rows.shape[1:])
    return pairs.swapaxes(1, 2).reshape(rows.shape)
