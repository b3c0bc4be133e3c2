"""What a stage gains that computes honestly and then claims other values, as far as the threshold lets it.

It knows the verifier's rows. Next to a row's value lie two codes it was not rounded to; claiming one of them costs what
the value lies outside that code's cell. The budget is the threshold: it spends it where a step moves its aim the most
for what it costs (a knapsack, by ratio). The aims: tokens other than the model's (the gradient of the runner-up's lead
at every position), and another model's delta (weights of 4 bits).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.verify.torch_side import TorchLayers
from inference.calibration.distances import Recomputed, send
from inference.engine.rows import Hidden, Tokens
from inference.fingerprint import PPB
from inference.rounding import compute_excess
from proto_specs.types.manifest import WireDtype

WIRE = WireDtype.BF16
WINDOW = 32
_BITS = 16

Aim = NDArray[np.float64]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Spent:
    """A claim, what it is off as the verifier measures it, how many codes moved, and the size of that by the delta."""

    claimed: Hidden
    distance_ppb: int
    moved: int
    moved_of_delta: float


def step_codes(rows: Hidden, up: NDArray[np.bool_]) -> Hidden:
    """The next bf16 value above or below each bf16 value (zero is stepped over as the bits do: by its sign)."""
    bits = (rows.astype("<f4").view("<u4") >> _BITS).astype(np.int64)
    outwards = up == (bits < 0x8000)
    stepped = np.where(outwards, bits + 1, bits - 1) & 0xFFFF
    values = (stepped.astype("<u4") << _BITS).view("<f4")
    return np.where(np.isfinite(values), values, rows).astype(np.float32)


def spend(judge: Recomputed, window: slice, aim: Aim, budget_ppb: int) -> Spent:
    """The claim of a window [n,C] that goes furthest along `aim` [n,C] within a distance of `budget_ppb`."""
    own, scale = judge.own[window], judge.scale[window.stop - 1]
    honest = send(own, WIRE)
    other = step_codes(honest, aim > 0)
    cost = np.square(compute_excess(other, own, WIRE) / scale) - np.square(compute_excess(honest, own, WIRE) / scale)
    gain = np.abs(aim) * np.abs(other.astype(np.float64) - honest)
    size = float(np.sum(np.square(judge.delta[window] / scale)))
    order = np.argsort(-(gain / np.maximum(cost, 1e-300)).ravel(), kind="stable")
    order = order[gain.ravel()[order] > 0]
    within = np.cumsum(np.maximum(cost.ravel()[order], 0.0)) <= (budget_ppb / PPB) ** 2 * size
    chosen = np.zeros(own.size, bool)
    chosen[order[within]] = True
    claimed = np.where(chosen.reshape(own.shape), other, honest)
    distance = int(_measure(judge, window, claimed))
    moved = np.linalg.norm((claimed.astype(np.float64) - honest) / scale) / np.sqrt(size)
    return Spent(claimed, distance, int(chosen.sum()), float(moved))


def _measure(judge: Recomputed, window: slice, claimed: Hidden) -> int:
    rows = judge.own.copy()
    rows[window] = claimed
    length = window.stop - window.start
    return int(judge.measure(rows, [length])[length][window.start])


class Attack:
    """Texts through a path of stages that end at `cuts`, each of which may spend the threshold in every window."""

    def __init__(self, model: TorchLayers, cuts: tuple[int, ...], budgets_ppb: dict[int, int]) -> None:
        self.model, self.cuts, self.budgets = model, cuts, budgets_ppb

    def run(self, tokens: Tokens, attackers: frozenset[int]) -> tuple[Hidden, list[Spent]]:
        """Logits [P,V] of the text when the stages that end at `attackers` attack, and what each window spent."""
        entered: Any = tokens
        start, spent = 0, []
        for end in self.cuts:
            base, own = self.model.run_range(start, end, entered)
            rows = send(own, WIRE)
            if end in attackers:
                judge = Recomputed(own, base, WIRE)
                aim = self.model.compute_lead_gradient(end, rows)
                for first in range(0, len(rows), WINDOW):
                    window = slice(first, min(first + WINDOW, len(rows)))
                    spent.append(spend(judge, window, aim[window], self.budgets[end]))
                    rows[window] = spent[-1].claimed
            entered, start = rows, end
        return self.model.compute_logits(entered), spent


def compute_shifts(honest: Hidden, attacked: Hidden) -> dict[str, float]:
    """How far the attacked logits [P,V] are from the honest ones: KL divergence, the largest shift, argmax changes."""
    p, q = (_log_softmax(one) for one in (honest, attacked))
    divergence = (np.exp(p) * (p - q)).sum(axis=1)
    return {
        "positions": len(p),
        "kl_mean": float(divergence.mean()),
        "kl_max": float(divergence.max()),
        "logit_shift_max": float(np.abs(honest - attacked).max()),
        "argmax_changes": int((honest.argmax(axis=1) != attacked.argmax(axis=1)).sum()),
    }


def _log_softmax(logits: Hidden) -> Values:
    values = logits.astype(np.float64)
    values -= values.max(axis=1, keepdims=True)
    found: Values = values - np.log(np.exp(values).sum(axis=1, keepdims=True))
    return found
