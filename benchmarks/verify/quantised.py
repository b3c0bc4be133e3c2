"""Wires narrower than bf16: what several quantisers of rows cost in bytes and in quality.

A quantiser is a function of one row and of constants that a manifest could hold (the RMS of each channel), so that a
verifier could judge its cells as it judges bf16's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.verify.adversary import compute_shifts
from benchmarks.verify.torch_side import TorchLayers
from inference.calibration.distances import send
from inference.engine.rows import Hidden, Tokens
from proto_specs.types.manifest import WireDtype

BLOCK = 32
SCALE_BITS = 16

Quantiser = Callable[[Hidden, NDArray[np.float32]], Hidden]


def quantise_blocks(rows: Hidden, levels: int) -> Hidden:
    """Symmetric codes with a scale for every 32 channels."""
    blocks = rows.reshape(len(rows), -1, BLOCK)
    step = np.abs(blocks).max(axis=2, keepdims=True) / levels
    codes = np.rint(np.divide(blocks, step, out=np.zeros_like(blocks), where=step > 0))
    found: Hidden = (codes * step).reshape(rows.shape).astype(np.float32)
    return found


def quantise_channels(rows: Hidden, rms: NDArray[np.float32], levels: int) -> Hidden:
    """As `quantise_blocks`, of rows divided by each channel's RMS: an outlier channel does not spoil its block."""
    return quantise_blocks(rows / rms, levels) * rms


WIRES: dict[str, tuple[float, Quantiser]] = {
    "bf16": (16, lambda rows, rms: send(rows, WireDtype.BF16)),
    "fp16": (16, lambda rows, rms: send(rows, WireDtype.FP16)),
    "int8, blocks of 32": (8 + SCALE_BITS / BLOCK, lambda rows, rms: quantise_blocks(rows, 127)),
    "int8, channels by RMS": (8 + SCALE_BITS / BLOCK, lambda rows, rms: quantise_channels(rows, rms, 127)),
    "int10, channels by RMS": (10 + SCALE_BITS / BLOCK, lambda rows, rms: quantise_channels(rows, rms, 511)),
    "int12, channels by RMS": (12 + SCALE_BITS / BLOCK, lambda rows, rms: quantise_channels(rows, rms, 2047)),
}


def compare_wires(model: TorchLayers, cuts: tuple[int, ...], texts: list[Tokens]) -> dict[str, Any]:
    """Bits a value, error of the wire as a share of the stage's delta, and what it does to logits after all stages."""
    channels = _measure_channels(model, cuts, texts)
    found: dict[str, Any] = {}
    exact = [model.compute_logits(model.run(0, one)[-1]) for one in texts]
    for name, (bits, quantise) in WIRES.items():
        shifts, losses = [], []
        for tokens, wanted in zip(texts, exact, strict=True):
            start, rows = 0, None
            for end in cuts:
                base, own = model.run_range(start, end, tokens if rows is None else rows)
                rows = quantise(own, channels[end]) if end < cuts[-1] else own
                if end < cuts[-1]:
                    losses.append(_compute_loss(own, rows, base))
                start = end
            assert rows is not None, "a path has a stage"
            shifts.append(compute_shifts(wanted, model.compute_logits(rows)))
        found[name] = {
            "bits_per_value": bits,
            "error_of_delta": float(np.mean(losses)),
            "kl_mean": float(np.mean([one["kl_mean"] for one in shifts])),
            "kl_max": max(one["kl_max"] for one in shifts),
            "argmax_changes": sum(one["argmax_changes"] for one in shifts),
            "positions": sum(one["positions"] for one in shifts),
        }
    return found


def _measure_channels(model: TorchLayers, cuts: tuple[int, ...], texts: list[Tokens]) -> dict[int, NDArray[np.float32]]:
    """The RMS of each channel at each cut, as a manifest would hold it: of other tokens than those compared."""
    rows = model.run(0, np.concatenate([one[::-1] for one in texts]))
    return {end: np.sqrt(np.mean(np.square(rows[end - 1][1:]), axis=0)) + np.float32(1e-6) for end in cuts}


def _compute_loss(own: Hidden, sent: Hidden, base: Hidden) -> float:
    """The error over the delta, channels scaled by the delta's RMS: of plain differences, not of cells."""
    delta = (own - base).astype(np.float64)
    scale = np.maximum(np.sqrt(np.mean(delta**2, axis=0)), 1e-6)
    return float(np.linalg.norm((sent - own) / scale) / np.linalg.norm(delta / scale))
