"""Rules that change logits before a token is drawn: repetition, frequency and presence penalties, biases.

What they do depends on tokens alone, so worker and verifier change logits alike. Formulas: fingerprint.md, "Sampling".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from copy import copy

import numpy as np
from numpy.typing import NDArray

from inference.decoding.draw import MILLI, Logits
from proto_specs.types.sampling import SamplingParams


class Penalties:
    """The rules of one order, and the tokens that they count."""

    def __init__(self, params: SamplingParams, prompt: Iterable[int] = ()) -> None:
        self._repetition = params.repetition_penalty_milli / MILLI
        self._frequency = params.frequency_penalty_milli / MILLI
        self._presence = params.presence_penalty_milli / MILLI
        self._bias_ids = np.array([one.token for one in params.logit_bias], np.int64)
        self._bias = np.array([one.bias_milli for one in params.logit_bias], np.float64) / MILLI
        self._repeats = params.repetition_penalty_milli != MILLI
        self._counts = bool(params.frequency_penalty_milli or params.presence_penalty_milli)
        self._prompt = frozenset(prompt) if self._repeats else frozenset()
        self._generated: Counter[int] = Counter()

    def fork(self) -> Penalties:
        """The same rules, to count tokens in that may not come."""
        other = copy(self)
        vars(other)["_generated"] = self._generated.copy()
        return other

    @property
    def is_off(self) -> bool:
        """Whether logits stay as they are."""
        return not (self._repeats or self._counts or self._bias_ids.size)

    @property
    def error_growth(self) -> float:
        """How many times larger these rules make an error of a logit, at most."""
        return max(self._repetition, 1.0 / self._repetition)

    def add(self, token: int) -> None:
        """Count a generated token."""
        if self._repeats or self._counts:
            self._generated[token] += 1

    def apply(self, logits: Logits) -> NDArray[np.float64]:
        """The logits [V] that a token is drawn from, in fp64. Tokens outside the vocabulary count for nothing."""
        values = logits.astype(np.float64)
        if self._repeats:
            seen = _list_known(self._prompt | self._generated.keys(), values.size)
            before = values[seen]
            values[seen] = np.where(before > 0.0, before / self._repetition, before * self._repetition)
        if self._counts and self._generated:
            drawn = _list_known(self._generated, values.size)
            counts = np.fromiter((self._generated[int(one)] for one in drawn), np.float64, drawn.size)
            values[drawn] -= self._frequency * counts + self._presence
        values[self._bias_ids] += self._bias
        return values


def _list_known(tokens: Iterable[int], vocab: int) -> NDArray[np.int64]:
    found = np.fromiter(tokens, np.int64)
    return found[found < vocab]
