"""Other weights in place of the published ones: the same in another form, and what a cheat might compute with instead.

Nothing that serves loads them: they are measured against when a model is calibrated, and by tests.
"""

from __future__ import annotations

import enum
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inference.model.forms import pack_values
from inference.model.graph.shard import ShardRange
from inference.model.layout import compute_file_name, compute_unit_bytes, place_tensors
from inference.model.stored_values import read_values
from proto_specs.types.manifest import Form, Manifest, Unit, UnitKind

BLOCK = 32
INT4_LEVELS = 7
INT8_LEVELS = 127

Matrix = NDArray[np.float32]


class Weights(enum.Enum):
    """EXPANDED are the published values as fp32: other products, in another order. All below are other values."""

    PUBLISHED = "published"
    EXPANDED = "fp32 form"
    HALF = "fp16 weights"
    INT8 = "int8 weights"
    INT4 = "int4 weights"
    NOISE_1 = "1 % weight noise"
    NOISE_01 = "0.1 % weight noise"
    SWAPPED = "another layer's weights"


NOISE = {Weights.NOISE_1: 0.01, Weights.NOISE_01: 0.001}
"""Deviation of the noise as a share of each matrix's own."""


def quantise(matrix: Matrix, levels: int) -> Matrix:
    """[N, K], rounded to symmetric blocks of 32 along K (as quantised formats block a row of weights)."""
    blocks = matrix.reshape(len(matrix), -1, BLOCK)
    step = np.abs(blocks).max(axis=2, keepdims=True) / levels
    codes = np.rint(np.divide(blocks, step, out=np.zeros_like(blocks), where=step > 0))
    return np.ascontiguousarray((codes * step).reshape(matrix.shape).astype(np.float32))


def perturb(matrix: Matrix, share: float, generator: np.random.Generator) -> Matrix:
    """Gaussian noise on it, of `share` of its standard deviation."""
    noise = generator.standard_normal(matrix.shape, dtype=np.float32)
    return matrix + np.float32(share * matrix.std()) * noise


def spoil(matrix: Matrix, weights: Weights, generator: np.random.Generator) -> Matrix:
    """A matrix as these weights have it. Vectors stay: no format rounds them."""
    if matrix.ndim < 2:
        return matrix
    if weights in NOISE:
        return perturb(matrix, NOISE[weights], generator)
    if weights is Weights.HALF:
        return matrix.astype(np.float16).astype(np.float32)
    levels = {Weights.INT8: INT8_LEVELS, Weights.INT4: INT4_LEVELS}.get(weights)
    if levels is not None and matrix.shape[-1] % BLOCK == 0:
        return quantise(matrix.reshape(-1, matrix.shape[-1]), levels).reshape(matrix.shape)
    return matrix


def write_layer(directory: Path, target: Path, manifest: Manifest, layer: int, weights: Weights) -> Manifest:
    """A layer's unit with other weights, and the units beside it that a session of the layer reads, in `target`.

    Returns the manifest that describes them (its roots are the published ones). SWAPPED takes the layer before, or of
    the first one the layer after. Raises ModelFormatError and OSError for units that are not there or damaged.
    """
    target.mkdir(parents=True)
    shard = ShardRange(manifest, layer, layer + 1)
    source = layer
    if weights is Weights.SWAPPED and manifest.architecture.layers > 1:
        source = layer - 1 if layer else 1
        if shard.get_parts(UnitKind.LAYER, source) != shard.get_parts(UnitKind.LAYER, layer):
            source = layer
    file = compute_file_name(UnitKind.LAYER, layer)
    for kind, index in shard.units:
        name = compute_file_name(kind, index)
        if name != file:
            link(directory / name, target / name)
    tensors = ShardRange(manifest, source, source + 1).get_tensors(UnitKind.LAYER, source)
    path = directory / compute_file_name(UnitKind.LAYER, source)
    values = {name: array for tensor in tensors for name, array in read_values(path, tensor).items()}
    parts = shard.get_parts(UnitKind.LAYER, layer)
    forms = (Form.FP32,) * len(parts)
    placed = place_tensors(parts, forms)
    generator = np.random.default_rng([layer, 1])
    changed = bytearray(compute_unit_bytes(placed))
    for tensor in placed:
        (array,) = tensor.arrays
        rows = np.concatenate([spoil(values[one.name], weights, generator) for one in tensor.parts])
        changed[array.offset : array.offset + array.size] = pack_values(Form.FP32, rows)["values"].tobytes()
    (target / file).write_bytes(changed)

    def change(unit: Unit) -> Unit:
        is_changed = (unit.kind, unit.index) == (UnitKind.LAYER, layer)
        return replace(unit, forms=tuple(map(int, forms)), bytes_total=len(changed)) if is_changed else unit

    return replace(manifest, units=tuple(map(change, manifest.units)))


def link(source: Path, target: Path) -> None:
    """The same file under another name; a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
