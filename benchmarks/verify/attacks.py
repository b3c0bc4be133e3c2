"""Measures what the adversary of `adversary.py` gains, by who attacks, and how rough weights may be and still pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks.verify.adversary import WINDOW, WIRE, Attack, Spent, compute_shifts, spend
from benchmarks.verify.quantised import quantise_blocks
from benchmarks.verify.torch_side import TorchLayers
from inference.calibration.distances import Recomputed, send
from inference.engine.rows import Hidden, Tokens

CUTS = (10, 20, 30)
CASES: dict[str, tuple[tuple[int, ...], frozenset[int]]] = {
    "the stage of layers 10-19": (CUTS, frozenset({20})),
    "two of three stages": (CUTS, frozenset({10, 20})),
    "all three stages": (CUTS, frozenset(CUTS)),
    "all of ten stages": (tuple(range(3, 31, 3)), frozenset(range(3, 31, 3))),
}
BITS = (10, 12, 13, 14, 15, 16, 18)
"""Stored bits of a significand, the hidden one not counted: fp16 has 10."""
INT8_LEVELS, INT4_LEVELS = 127, 7

Say = Callable[[str], None]


def measure_attacks(model: TorchLayers, texts: Sequence[Tokens], thresholds: Sequence[int], say: Say) -> dict[str, Any]:
    """`thresholds` are those after each layer, in parts per billion; texts are [P] token ids."""
    found: dict[str, Any] = {"towards_other_tokens": {}}
    exact = [model.compute_logits(model.run(0, one)[-1]) for one in texts]
    for name, (cuts, attackers) in CASES.items():
        attack = Attack(model, cuts, {end: thresholds[end - 1] for end in cuts})
        shifts, rounding, spent = [], [], []
        for tokens, wanted in zip(texts, exact, strict=True):
            honest, _ = attack.run(tokens, frozenset())
            attacked, mine = attack.run(tokens, attackers)
            shifts.append(compute_shifts(honest, attacked))
            rounding.append(compute_shifts(wanted, honest))
            spent += mine
        found["towards_other_tokens"][name] = {
            "attack": _join(shifts),
            "rounding_alone": _join(rounding),
            **_describe(spent),
        }
        say(f"adversary: {name}")
    found["layers_10_to_19"] = _measure_stage(model, texts[0], thresholds[19])
    return found


def _measure_stage(model: TorchLayers, tokens: Tokens, threshold: int) -> dict[str, Any]:
    """One stage: how far it gets towards weights of 4 bits, what hides 8 bits, and how many bits are enough to pass."""
    entered = send(model.run(0, tokens, 10)[-1], WIRE)
    base, own = model.run_range(10, 20, entered)
    judge = Recomputed(own, base, WIRE)
    windows = [slice(first, first + WINDOW) for first in range(0, len(own), WINDOW)]
    with model.change_weights(10, 20, lambda matrix: quantise_blocks(matrix, INT4_LEVELS)):
        other = model.run(10, entered, 20)[-1]
    towards = (other - own).astype(np.float64)
    moved = []
    for one in windows:
        spent = spend(judge, one, towards[one], threshold)
        step = (spent.claimed - send(own[one], WIRE)).astype(np.float64) / judge.scale[one.stop - 1]
        wanted = towards[one] / judge.scale[one.stop - 1]
        moved.append(float(np.sum(step * wanted) / np.sum(wanted * wanted)))
    with model.change_weights(10, 20, lambda matrix: quantise_blocks(matrix, INT8_LEVELS)):
        eight = model.run(10, entered, 20)[-1]
    found: dict[str, Any] = {
        "share_of_the_way_to_int4": float(np.mean(moved)),
        "int8_rows_claimed": {
            "as rounded": _least(judge, eight),
            "as the wider cell's code": _least(judge, _widen_cells(eight)),
            "averaged with the input": _least(judge, (eight * np.float32(63) + base) / np.float32(64)),
            "one row of a window in 8 bits": _least(judge, _mix(own, eight)),
        },
        "threshold_ppb": threshold,
        "weights_of_so_many_stored_bits": {},
    }
    for bits in BITS:
        with model.change_weights(10, 20, lambda matrix, kept=bits: round_bits(matrix, kept)):  # type: ignore[misc]
            rough = model.run(10, entered, 20)[-1]
        distances = judge.measure(rough, [1, WINDOW])
        found["weights_of_so_many_stored_bits"][str(bits)] = {
            "windows_least": int(distances[WINDOW].min()),
            "windows_largest": int(distances[WINDOW].max()),
            "rows_least": int(distances[1][1:].min()),
        }
    return found


def round_bits(matrix: Hidden, bits: int) -> Hidden:
    """fp32 values with so many stored bits of their significands, to nearest."""
    dropped = 23 - bits
    raw = matrix.astype("<f4").view("<u4").astype(np.uint64)
    rounded = ((raw + (1 << (dropped - 1))) >> dropped << dropped).astype("<u4")
    found: Hidden = rounded.view("<f4").astype(np.float32)
    return found


def _widen_cells(rows: Hidden) -> Hidden:
    """Each value as the nearest power of two, where that is within a hundredth: the cell above it is the wider one."""
    power = np.exp2(np.rint(np.log2(np.maximum(np.abs(rows), 1e-30)))).astype(np.float32) * np.sign(rows)
    return np.where(np.abs(rows - power) <= np.abs(rows) / 100, power, rows).astype(np.float32)


def _mix(own: Hidden, cheat: Hidden) -> Hidden:
    rows = own.copy()
    rows[WINDOW // 2 :: WINDOW] = cheat[WINDOW // 2 :: WINDOW]
    return rows


def _least(judge: Recomputed, rows: Hidden) -> int:
    return int(judge.measure(rows.astype(np.float32), [WINDOW])[WINDOW][::WINDOW].min())


def _join(shifts: Sequence[dict[str, float]]) -> dict[str, float]:
    return {
        "positions": sum(one["positions"] for one in shifts),
        "kl_mean": float(np.mean([one["kl_mean"] for one in shifts])),
        "kl_max": max(one["kl_max"] for one in shifts),
        "logit_shift_max": max(one["logit_shift_max"] for one in shifts),
        "argmax_changes": sum(one["argmax_changes"] for one in shifts),
    }


def _describe(spent: Sequence[Spent]) -> dict[str, Any]:
    return {
        "windows": len(spent),
        "distance_ppb_max": max(one.distance_ppb for one in spent),
        "codes_moved_mean": float(np.mean([one.moved for one in spent])),
        "moved_of_delta_mean": float(np.mean([one.moved_of_delta for one in spent])),
        "moved_of_delta_max": max(one.moved_of_delta for one in spent),
    }
