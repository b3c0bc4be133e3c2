"""Draws a token from logits so that anyone can draw it again: seeded Gumbel-max. Formula: fingerprint.md, "Sampling".

Noise is a function of (seed, position, token id) alone, so resuming, recomputing or verifying needs no generator state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import SamplingError
from proto_specs.types.sampling import SamplingParams

MILLI = 1000
TEMPERATURE_MILLI_MAX = 100 * MILLI

Logits = NDArray[np.float32] | NDArray[np.float64]
TokenIds = NDArray[np.int64]
_Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Support:
    """Places of tokens in rank order (logit down, id up). Those whose logit is at least `least` may be drawn."""

    ranked: TokenIds
    least: float


def sample(logits: Logits, params: SamplingParams, position: int, allowed: TokenIds | None = None) -> int:
    """The token for `position` (of the row whose logits [V] these are). Temperature 0 is greedy; ties: lowest id.

    The logits are those after penalties and bias. `allowed` holds the ids that may be drawn, ascending; None: all.
    Raises SamplingError for NaN, infinity, no logits, nothing allowed, or parameters out of range.
    """
    _validate(logits, params, allowed)
    if params.temperature_milli == 0:
        return int(np.argmax(logits)) if allowed is None else int(allowed[np.argmax(logits[allowed])])
    values = _take(logits, allowed)
    support = _compute_support(values, params, 0.0, strict=True)
    kept = np.sort(support.ranked[values[support.ranked] >= support.least])
    scores = _compute_scores(values, params, position, logits.size, allowed)
    place = int(kept[np.argmax(scores[kept])])
    return place if allowed is None else int(allowed[place])


def is_sample_consistent(
    logits: Logits,
    params: SamplingParams,
    position: int,
    claimed: int,
    margin: float,
    allowed: TokenIds | None = None,
) -> bool:
    """Whether `claimed` could be the draw from logits that differ from these by honest rounding.

    `margin` (logit units) is twice the largest honest error of a logit. The claimed token must lie in the support
    widened by the margin, and no token of the support narrowed by it may score higher by more than the margin.
    Raises SamplingError as `sample` does; a token outside the vocabulary or not allowed is merely inconsistent.
    """
    _validate(logits, params, allowed)
    place = _find_place(claimed, logits.size, allowed)
    if place is None:
        return False
    values = _take(logits, allowed)
    if params.temperature_milli == 0:
        return bool(values[place] >= values.max() - margin)
    maybe = _compute_support(values, params, margin, strict=False)
    if values[place] < maybe.least - margin:
        return False
    surely = _compute_support(values, params, margin, strict=True)
    certain = surely.ranked[values[surely.ranked] >= surely.least + margin]
    scores = _compute_scores(values, params, position, logits.size, allowed)
    return not certain.size or bool(scores[place] >= scores[certain].max() - margin)


def compute_noise(seed: int, position: int, count: int) -> _Floats:
    """Standard Gumbel noise [count] of tokens 0.. for one position: -ln(-ln u), u from Philox4x64-10.

    Token 4b + j takes word j of the block with counter (b + 1, position, 0, 0) and key (seed, 0), all 64-bit;
    u = (floor(word / 2^11) + 1/2) / 2^53. (numpy steps the counter before its first block: start it at (0, position).)
    """
    generator = np.random.Philox(counter=position << 64, key=seed)
    words = generator.random_raw(count)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(-np.log(uniform))


def _validate(logits: Logits, params: SamplingParams, allowed: TokenIds | None) -> None:
    if logits.ndim != 1 or not logits.size:
        raise SamplingError(f"logits are [V], not {list(logits.shape)}")
    if not np.isfinite(logits).all():
        raise SamplingError("logits hold NaN or infinity: no token can be drawn")
    if allowed is not None and not allowed.size:
        raise SamplingError("no token is allowed: none can be drawn")
    if params.temperature_milli > TEMPERATURE_MILLI_MAX:
        raise SamplingError(f"temperature is at most {TEMPERATURE_MILLI_MAX} milli, not {params.temperature_milli}")
    if not 1 <= params.top_p_milli <= MILLI:
        raise SamplingError(f"top_p is 1 to {MILLI} milli, not {params.top_p_milli}")
    if not 0 <= params.min_p_milli <= MILLI:
        raise SamplingError(f"min_p is 0 to {MILLI} milli, not {params.min_p_milli}")


def _take(logits: Logits, allowed: TokenIds | None) -> _Floats:
    return (logits if allowed is None else logits[allowed]).astype(np.float64, copy=False)


def _find_place(token: int, count: int, allowed: TokenIds | None) -> int | None:
    """Where a token is among those that may be drawn."""
    if not 0 <= token < count:
        return None
    if allowed is None:
        return token
    place = int(np.searchsorted(allowed, token))
    return place if place < allowed.size and allowed[place] == token else None


def _compute_scores(
    values: _Floats, params: SamplingParams, position: int, count: int, allowed: TokenIds | None
) -> _Floats:
    """logit + temperature x noise: its argmax is a draw from softmax(logit / temperature), in logit units."""
    noise = compute_noise(params.seed, position, count)
    return values + (params.temperature_milli / MILLI) * (noise if allowed is None else noise[allowed])


def _compute_support(values: _Floats, params: SamplingParams, margin: float, strict: bool) -> _Support:
    """Top-k, then top-p of what is left, then min-p. With a margin, top-p's running sums are taken as wrong by what the
    margin allows, in the direction that keeps fewer tokens (`strict`) or more."""
    ranked = _rank(values, params.top_k or values.size)
    temperature = params.temperature_milli / MILLI
    highest = float(values[ranked[0]])
    if params.top_p_milli < MILLI:
        weights = np.exp((values[ranked] - highest) / temperature)
        before = np.concatenate([[0.0], np.cumsum(weights)[:-1]]) / weights.sum()
        slack = np.exp(min(2.0 * margin / temperature, 700.0))
        before = before * slack if strict else before / slack
        ranked = ranked[before < params.top_p_milli / MILLI]
    least = float(values[ranked[-1]])
    if params.min_p_milli:
        least = max(least, highest + temperature * math.log(params.min_p_milli / MILLI))
    return _Support(ranked, least)


def _rank(values: _Floats, count: int) -> TokenIds:
    """The `count` largest by (logit down, id up)."""
    count = min(count, values.size)
    if count < values.size:
        threshold = np.partition(values, values.size - count)[values.size - count]
        candidates = np.flatnonzero(values >= threshold)
    else:
        candidates = np.arange(values.size)
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]
