"""Where each array lies inside a unit file: a pure function of the unit's parts and their forms, shared by all.

Neighbouring parts that a family joins (q, k and v, say) and that have one form are stored as one tensor, row after row,
so that one product computes them. Every array starts at a multiple of ALIGNMENT_BYTES (zeros between), so that a
runtime can map it. The arrays of a form are those of `forms.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inference.model.forms import BLOCK_FORMS, FLOAT_BLOCK, Role, compute_arrays, is_blocked
from proto_specs.types.manifest import Form, UnitKind

ALIGNMENT_BYTES = 4096


@dataclass(frozen=True)
class Part:
    """A tensor of a unit as its family sees it: [n] of a vector, [N, K] of a matrix or table, [E, N, K] of a stack.

    Neighbours with the same `joined` text are stored as one where their forms agree.
    """

    name: str
    role: Role
    shape: tuple[int, ...]
    joined: str = ""

    @property
    def rows(self) -> int:
        """Rows of all its matrices; elements of a vector."""
        return math.prod(self.shape[:-1]) if self.role is not Role.VECTOR else self.shape[0]


@dataclass(frozen=True)
class StoredArray:
    """An array of a tensor: little-endian, row-major, from byte `offset` of the unit file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Bytes of the array, padding excluded."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    def take(self, place: int, count: int) -> StoredArray:
        """The array of the matrix `place` of `count` that lie in this one, rows after rows."""
        rows = self.shape[0] // count
        return StoredArray(self.name, self.dtype, (rows, *self.shape[1:]), self.offset + place * (self.size // count))


@dataclass(frozen=True)
class StoredTensor:
    """One or more joined parts in one form: [rows, columns], with the rows of the parts one after another."""

    parts: tuple[Part, ...]
    form: Form
    arrays: tuple[StoredArray, ...]

    @property
    def name(self) -> str:
        """The parts' names."""
        return "+".join(one.name for one in self.parts)

    @property
    def role(self) -> Role:
        """What it is used for."""
        return self.parts[0].role

    @property
    def rows(self) -> int:
        """Outputs of a matrix (of experts and heads: of all), rows of a table, elements of a vector."""
        return sum(one.rows for one in self.parts)

    @property
    def columns(self) -> int:
        """Inputs of a matrix, width of a table; 1 of a vector."""
        return self.parts[0].shape[-1] if self.role is not Role.VECTOR else 1

    def get_array(self, name: str) -> StoredArray:
        """The array of that name."""
        return next(one for one in self.arrays if one.name == name)

    def get_matrix(self, place: int) -> StoredTensor:
        """One matrix [N, K] of experts, as a tensor of its own that lies in this one."""
        (part,) = self.parts
        count, *shape = part.shape
        arrays = tuple(one.take(place, count) for one in self.arrays)
        return StoredTensor((Part(part.name, part.role, tuple(shape)),), self.form, arrays)


def place_tensors(parts: Sequence[Part], forms: Sequence[int]) -> tuple[StoredTensor, ...]:
    """The stored tensors of a unit with these parts in these forms, in file order."""
    assert len(parts) == len(forms), "a unit has one form for each part"
    tensors: list[StoredTensor] = []
    offset = 0
    pairs = enumerate(zip(parts, map(Form, forms), strict=True))
    for _, run in itertools.groupby(pairs, key=lambda item: (item[1][0].joined or item[0], item[1][1])):
        members = [pair for _, pair in run]
        joined, form = tuple(part for part, _ in members), members[0][1]
        rows, columns = sum(one.rows for one in joined), joined[0].shape[-1]
        arrays: list[StoredArray] = []
        for name, (dtype, shape) in compute_arrays(form, joined[0].role, rows, columns).items():
            array = StoredArray(name, dtype, shape, offset)
            arrays.append(array)
            offset += -(-array.size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
        tensors.append(StoredTensor(joined, form, tuple(arrays)))
    return tuple(tensors)


def compute_unit_bytes(tensors: Sequence[StoredTensor]) -> int:
    """Size of the unit file: it ends with its last array, without trailing padding."""
    if not tensors:
        return 0
    last = tensors[-1].arrays[-1]
    return last.offset + last.size


def can_hold(form: Form, part: Part) -> bool:
    """Whether a part can be stored in a form: vectors are FP32, heads have no blocks, fp8 is for experts.

    Blocks divide the columns.
    """
    if part.role is Role.VECTOR:
        return form is Form.FP32
    if part.role is Role.HEADS:
        return not is_blocked(form)
    if form is Form.F8_B128:
        return part.role is Role.EXPERTS and part.shape[-1] % FLOAT_BLOCK == 0
    return form not in BLOCK_FORMS or part.shape[-1] % BLOCK_FORMS[form].block == 0


def compute_file_name(kind: UnitKind, index: int) -> str:
    """Name of a unit's file inside its model's directory."""
    names = {
        UnitKind.EMBED: "embed.bin",
        UnitKind.LAYER: f"layer-{index:03d}.bin",
        UnitKind.HEAD: "head.bin",
        UnitKind.TOKENIZER: "tokenizer.json",
        UnitKind.CHAT_TEMPLATE: "chat_template.jinja",
        UnitKind.GOLDEN: f"golden-{index:03d}.bin",
    }
    return names[kind]
