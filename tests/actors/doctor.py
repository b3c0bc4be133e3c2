"""Dishonest copies of a stored model's weights, as cheats are told from honest work in the demo and in tests.

QUANTISE rounds every matrix of the range to 4-bit symmetric blocks of 32 (a cheaper model in place of the published
one), INT8 likewise to 8 bits, HALF to fp16; PERTURB adds seeded Gaussian noise of 1 % of each matrix's standard
deviation; SKIP leaves the middle layer out: its two output matrices are zero, so the layer adds zero to its input,
which is bit for bit what no layer gives.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.calibration.substitutes import INT4_LEVELS, INT8_LEVELS, link, perturb, quantise
from inference.errors import StoreError
from inference.model.forms import pack_values
from inference.model.graph.shard import ShardRange
from inference.model.layout import Part, StoredTensor, compute_file_name, compute_unit_bytes, place_tensors
from inference.model.stored_values import read_values
from proto_specs.types.manifest import Form, Manifest, Unit, UnitKind

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


def write_doctored(directory: Path, target: Path, shard: ShardRange, cheat: Cheat, seed: int = 0) -> Manifest:
    """Copy a model's weight files to the new directory `target` with the shard's layers doctored, as fp32.

    Returns the manifest that describes the copy (its roots are still the honest ones). Other files are hard links where
    the file system allows, else copies. Raises StoreError when `target` exists.
    """
    try:
        target.mkdir(parents=True)
    except FileExistsError as error:
        raise StoreError(f"{target} exists already: doctored copies are written to a fresh directory") from error
    layers = [(shard.start + shard.end) // 2] if cheat is Cheat.SKIP else list(shard.layers)
    doctored = {compute_file_name(UnitKind.LAYER, layer): layer for layer in layers}
    for file in sorted(directory.glob("*.bin")):
        layer = doctored.get(file.name)
        if layer is None:
            link(file, target / file.name)
        else:
            generator = np.random.default_rng([seed, layer])
            parts = shard.get_parts(UnitKind.LAYER, layer)
            _doctor_layer(file, target / file.name, shard.get_tensors(UnitKind.LAYER, layer), parts, cheat, generator)

    def change(unit: Unit) -> Unit:
        if unit.kind != UnitKind.LAYER or unit.index not in layers:
            return unit
        size = (target / compute_file_name(UnitKind.LAYER, unit.index)).stat().st_size
        return replace(unit, forms=(Form.FP32,) * len(unit.forms), bytes_total=size)

    units = tuple(map(change, shard.manifest.units))
    return replace(shard.manifest, units=units, ranges=())  # and no golden window that would tell


def _doctor_layer(
    source: Path,
    target: Path,
    tensors: Sequence[StoredTensor],
    parts: Sequence[Part],
    cheat: Cheat,
    generator: np.random.Generator,
) -> None:
    values = {name: array for tensor in tensors for name, array in read_values(source, tensor).items()}
    placed = place_tensors(parts, [Form.FP32] * len(parts))
    changed = bytearray(compute_unit_bytes(placed))
    for tensor in placed:
        (array,) = tensor.arrays
        spoilt = [_spoil(values[one.name], one.name, cheat, generator) for one in tensor.parts]
        data = pack_values(Form.FP32, np.concatenate(spoilt))["values"].tobytes()
        changed[array.offset : array.offset + array.size] = data
    target.write_bytes(changed)


def _spoil(matrix: Matrix, name: str, cheat: Cheat, generator: np.random.Generator) -> Matrix:
    if matrix.ndim < 2:
        return matrix  # norms stay: no format quantises them
    match cheat:
        case Cheat.QUANTISE:
            return quantise(matrix, INT4_LEVELS)
        case Cheat.PERTURB:
            return perturb(matrix, NOISE_SHARE, generator)
        case Cheat.INT8:
            return quantise(matrix, INT8_LEVELS)
        case Cheat.HALF:
            return matrix.astype(np.float16).astype(np.float32)
        case Cheat.SKIP:
            return np.zeros_like(matrix) if name in OUTPUT_MATRICES else matrix
