"""Applies an order's rules, token by token. Worker and verifier use this one class: what one draws the other derives.

The order of the rules and their formulas are in fingerprint.md, "Sampling".
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from inference.decoding.draw import Logits, TokenIds, is_sample_consistent, sample
from inference.decoding.grammar import GrammarState
from inference.decoding.logprobs import compute_logprobs
from inference.decoding.penalties import Penalties
from inference.decoding.stops import StopFinder
from inference.errors import GrammarError
from inference.model.tokenizer.vocabulary import Vocabulary
from inference.serving.events import DrawnToken
from proto_specs.types.sampling import SamplingParams, TokenLogprob


class TokenChooser:
    """The rules of one request and what they remember: tokens generated so far. Not thread-safe.

    `prompt` is needed where the rules read it, `vocabulary` for stop strings, `grammar` where the order names one.
    """

    def __init__(
        self,
        params: SamplingParams,
        eos_tokens: Collection[int],
        prompt: Sequence[int] = (),
        vocabulary: Vocabulary | None = None,
        grammar: GrammarState | None = None,
    ) -> None:
        self.params = params
        self._eos = frozenset(eos_tokens)
        self._prompt = prompt
        self._penalties = Penalties(params, prompt)
        self._vocabulary = vocabulary
        self._stops = StopFinder(params.stop) if params.stop else None
        self._grammar = grammar

    def choose(self, logits: Logits, position: int) -> DrawnToken:
        """Draw the token that follows the row at `position`, whose logits [V] these are, and count it as generated.

        Raises SamplingError when none can be drawn, GrammarError when the grammar cannot go on.
        """
        token = sample(self._adjust(logits), self.params, position, self._get_allowed())
        scores = compute_logprobs(logits, token, self.params.logprobs) if self.params.logprobs else ()
        return DrawnToken(token, self.advance(token), scores)

    def is_consistent(self, logits: Logits, position: int, claimed: int, margin: float) -> bool:
        """Whether `claimed` could be drawn at `position` from logits that differ by honest rounding, half of `margin`.

        Nothing is counted: see `advance`. Where the grammar cannot go on, no token could be drawn. Raises SamplingError
        for logits from which none can be drawn.
        """
        try:
            allowed = self._get_allowed()
        except GrammarError:
            return False
        grown = margin * self._penalties.error_growth
        return is_sample_consistent(self._adjust(logits), self.params, position, claimed, grown, allowed)

    def advance(self, token: int) -> bool:
        """Count a token as generated, whoever drew it; whether the generation ends with it."""
        self._penalties.add(token)
        if token in self._eos:
            return True
        if self._grammar is not None:
            self._grammar.advance(token)
        if self._stops is None:
            return False
        assert self._vocabulary is not None, "stop strings come with the vocabulary"
        return self._stops.push(self._vocabulary.get_bytes(token))

    def resume(self, drawn: Sequence[int]) -> bool:
        """Count tokens that were drawn under orders before, after the prompt; whether the generation ended with one."""
        self._prompt = (*self._prompt, *drawn)
        return any(self.advance(one) for one in drawn)

    def score_prompt(self, logits: Logits, position: int) -> tuple[TokenLogprob, ...]:
        """Log-probabilities of the prompt's token after `position`, and of the likeliest, from logits [V] there."""
        return compute_logprobs(logits, self._prompt[position + 1], self.params.logprobs)

    def _adjust(self, logits: Logits) -> Logits | NDArray[np.float64]:
        return logits if self._penalties.is_off else self._penalties.apply(logits)

    def _get_allowed(self) -> TokenIds | None:
        return None if self._grammar is None else self._grammar.get_allowed()
