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


_BOUND_SLACK = 1e-6
"""Far above what rounding does to a score."""
_RANKED_FIRST = 512
"""How many of the likeliest are ranked before it is known how many top-p keeps: sorting all costs far more."""


@dataclass(frozen=True)
class _Support:
    """Places of tokens that top-k and top-p keep, None for all. Those whose logit is at least `least` may be drawn."""

    kept: TokenIds | None
    least: float

    def list_above(self, values: _Floats, least: float) -> TokenIds:
        """Kept places, ascending, whose value is at least `least`."""
        if self.kept is None:
            return np.flatnonzero(values >= least)
        return np.sort(self.kept[values[self.kept] >= least])


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
    words = draw_words(params.seed, position, logits.size)
    words = words if allowed is None else words[allowed]
    least = support.least
    if support.kept is None:
        least = max(least, _bound_winner(values, words, params.temperature_milli / MILLI))
    kept = support.list_above(values, least)
    place = int(kept[np.argmax(_compute_scores(values, words, kept, params))])
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
    certain = surely.list_above(values, surely.least + margin)
    words = draw_words(params.seed, position, logits.size)
    words = words if allowed is None else words[allowed]
    scores = _compute_scores(values, words, np.append(certain, place), params)
    return not certain.size or bool(scores[-1] >= scores[:-1].max() - margin)


def draw_words(seed: int, position: int, count: int) -> NDArray[np.uint64]:
    """The random words [count] of tokens 0.. for one position, from Philox4x64-10.

    Token 4b + j takes word j of the block with counter (b + 1, position, 0, 0) and key (seed, 0), all 64-bit. (numpy
    steps the counter before its first block: start it at (0, position).)
    """
    words: NDArray[np.uint64] = np.random.Philox(counter=position << 64, key=seed).random_raw(count)
    return words


def compute_noise(words: NDArray[np.uint64]) -> _Floats:
    """Standard Gumbel noise of words: -ln(-ln u), u = (floor(word / 2^11) + 1/2) / 2^53."""
    leading = (words >> np.uint64(11)).view(np.int64)  # signed numbers become floats several times faster
    return -np.log(-np.log((leading.astype(np.float64) + 0.5) * 2.0**-53))


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


def _compute_scores(values: _Floats, words: NDArray[np.uint64], places: TokenIds, params: SamplingParams) -> _Floats:
    """logit + temperature x noise of places: its argmax is a draw from softmax(logit / temperature), in logit units."""
    return values[places] + (params.temperature_milli / MILLI) * compute_noise(words[places])


def _bound_winner(values: _Floats, words: NDArray[np.uint64], temperature: float) -> float:
    """A logit that the winner among all places is not below: most of a vocabulary needs no noise.

    The likeliest place has a score; any other needs at least that, and no noise is above that of the largest word.
    """
    likeliest, luckiest = int(np.argmax(values)), int(np.argmax(words))
    noise = compute_noise(words[[likeliest, luckiest]])
    score = max(values[likeliest] + temperature * noise[0], values[luckiest] + temperature * noise[1])
    return float(score - temperature * noise[1]) - _BOUND_SLACK * (1.0 + temperature)


def _compute_support(values: _Floats, params: SamplingParams, margin: float, strict: bool) -> _Support:
    """Top-k, then top-p of what is left, then min-p. With a margin, top-p's running sums are taken as wrong by what the
    margin allows, in the direction that keeps fewer tokens (`strict`) or more."""
    temperature = params.temperature_milli / MILLI
    highest = float(values.max())
    kept = _rank(values, params.top_k) if params.top_k else None
    if params.top_p_milli < MILLI:
        slack = math.exp(min(2.0 * margin / temperature, 700.0))
        limit = params.top_p_milli / MILLI
        kept = _keep_mass(values, highest, temperature, kept, limit / slack if strict else limit * slack)
    least = float(values.min() if kept is None else values[kept[-1]])
    if params.min_p_milli:
        least = max(least, highest + temperature * math.log(params.min_p_milli / MILLI))
    return _Support(kept, least)


def _keep_mass(values: _Floats, highest: float, temperature: float, ranked: TokenIds | None, limit: float) -> TokenIds:
    """Of the ranked places, or of all, in rank order those before which less than `limit` of the probability lies."""
    if ranked is not None:
        weights = np.exp((values[ranked] - highest) / temperature)
        kept: TokenIds = ranked[_sum_before(weights) / weights.sum() < limit]
        return kept
    total = float(np.exp((values - highest) / temperature).sum())
    count = min(_RANKED_FIRST, values.size)
    while True:
        ranked = _rank(values, count)
        before = _sum_before(np.exp((values[ranked] - highest) / temperature)) / total
        if before[-1] >= limit or count == values.size:
            return ranked[before < limit]
        count = min(8 * count, values.size)


def _sum_before(weights: _Floats) -> _Floats:
    return np.concatenate([[0.0], np.cumsum(weights)[:-1]])


def _rank(values: _Floats, count: int) -> TokenIds:
    """The `count` largest by (logit down, id up)."""
    count = min(count, values.size)
    if count < values.size:
        threshold = np.partition(values, values.size - count)[values.size - count]
        candidates = np.flatnonzero(values >= threshold)
    else:
        candidates = np.arange(values.size)
    return candidates[np.argsort(-values[candidates], kind="stable")][:count]
