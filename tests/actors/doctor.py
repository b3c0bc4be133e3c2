"""Dishonest copies of a stored model's weights, as cheats are told from honest work in the demo and in tests.

QUANTISE rounds every matrix of the range to 4-bit symmetric blocks of 32 (a cheaper model in place of the published
one), INT8 likewise to 8 bits, HALF to fp16; PERTURB adds seeded Gaussian noise of 1 % of each matrix's standard
deviation; SKIP leaves the middle layer out: its two output matrices are zero, so the layer adds zero to its input,
which is bit for bit what no layer gives.
"""

from __future__ import annotations

import enum
import os
import shutil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.errors import StoreError
from inference.model.layout import TensorSlot, compute_file_name, compute_slots
from proto_specs.types.manifest import Architecture, UnitKind

BLOCK = 32
LEVELS = 7
INT8_LEVELS = 127
NOISE_SHARE = 0.01

OUTPUT_MATRICES = frozenset({"attn_out", "down"})
"""What a layer writes to the residual stream goes through these two."""

Matrix = NDArray[np.float32]


class Cheat(enum.Enum):
    """What is done to the weights."""

    QUANTISE = "quantise"
    SKIP = "skip"
    PERTURB = "perturb"
    INT8 = "int8"
    HALF = "half"


def write_doctored(
    directory: Path, target: Path, architecture: Architecture, start: int, end: int, cheat: Cheat, seed: int = 0
) -> None:
    """Copy a model's weight files to the new directory `target` with layers [start, end) doctored.

    Other files are hard links where the file system allows, else copies. Raises StoreError when `target` exists.
    """
    try:
        target.mkdir(parents=True)
    except FileExistsError as error:
        raise StoreError(f"{target} exists already: doctored copies are written to a fresh directory") from error
    layers = [(start + end) // 2] if cheat is Cheat.SKIP else range(start, end)
    doctored = {compute_file_name(UnitKind.LAYER, layer): layer for layer in layers}
    for file in sorted(directory.glob("*.bin")):
        layer = doctored.get(file.name)
        if layer is None:
            _link(file, target / file.name)
        else:
            generator = np.random.default_rng([seed, layer])
            (target / file.name).write_bytes(_doctor_layer(file.read_bytes(), architecture, cheat, generator))


def _doctor_layer(data: bytes, architecture: Architecture, cheat: Cheat, generator: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for slot in compute_slots(architecture, UnitKind.LAYER):
        if len(slot.shape) < 2:
            continue  # norms stay: no format quantises them
        worse = _spoil(_read(data, slot), slot.name, cheat, generator)
        changed[slot.offset : slot.offset + slot.size] = worse.astype("<f4").tobytes()
    return bytes(changed)


def _spoil(matrix: Matrix, name: str, cheat: Cheat, generator: np.random.Generator) -> Matrix:
    match cheat:
        case Cheat.QUANTISE:
            return _quantise(matrix, LEVELS)
        case Cheat.PERTURB:
            return _perturb(matrix, generator)
        case Cheat.INT8:
            return _quantise(matrix, INT8_LEVELS)
        case Cheat.HALF:
            return matrix.astype(np.float16).astype(np.float32)
        case Cheat.SKIP:
            return np.zeros_like(matrix) if name in OUTPUT_MATRICES else matrix


def _read(data: bytes, slot: TensorSlot) -> Matrix:
    return np.frombuffer(data, dtype="<f4", count=slot.size // 4, offset=slot.offset).reshape(slot.shape)


def _quantise(matrix: Matrix, levels: int) -> Matrix:
    """[in, out], blocks of 32 along `in` (as quantised formats block a row of weights)."""
    blocks = matrix.T.reshape(matrix.shape[1], -1, BLOCK)
    step = np.abs(blocks).max(axis=2, keepdims=True) / levels
    codes = np.rint(np.divide(blocks, step, out=np.zeros_like(blocks), where=step > 0))
    return np.ascontiguousarray((codes * step).reshape(matrix.shape[1], -1).T.astype(np.float32))


def _perturb(matrix: Matrix, generator: np.random.Generator) -> Matrix:
    noise = generator.standard_normal(matrix.shape, dtype=np.float32)
    return matrix + np.float32(NOISE_SHARE * matrix.std()) * noise


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
