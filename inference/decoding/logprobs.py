"""Log-probabilities of tokens under a model's own logits, as they are told to whoever asked."""

from __future__ import annotations

import numpy as np

from inference.decoding.draw import Logits
from proto_specs.types.sampling import TokenLogprob

MICRO = 1_000_000
_I32_MIN = -(1 << 31)


def compute_logprobs(logits: Logits, token: int, count: int) -> tuple[TokenLogprob, ...]:
    """`count` entries: `token`'s own and then the likeliest of all [V], descending, the lowest id first of equals.

    log softmax in fp64 of the logits before any rule, in millionths of a nat.
    """
    values = logits.astype(np.float64)
    highest = values.max()
    total = highest + np.log(np.exp(values - highest).sum())
    others = min(count - 1, values.size)
    ids = [token]
    if others:
        threshold = np.partition(values, values.size - others)[values.size - others]
        candidates = np.flatnonzero(values >= threshold)
        ids += candidates[np.argsort(-values[candidates], kind="stable")][:others].tolist()
    scores = np.clip(np.rint((values[ids] - total) * MICRO), _I32_MIN, 0)
    return tuple(TokenLogprob(one, int(score)) for one, score in zip(ids, scores, strict=True))
