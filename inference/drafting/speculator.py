"""Drafts for one request: where they come from, how long they are, and what is learnt from what came back.

The first stage's shell asks for a draft after each answer, and tells what came of it. Nothing here reads a clock.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference.drafting.costs import CallCosts
from inference.drafting.draft import NOTHING, Draft
from inference.drafting.lookup import PRIORS, PromptLookup
from inference.drafting.model_drafter import CONFIDENCE_PRIORS, ModelDrafter
from inference.drafting.policy import DRAFT_MAX, SURE_TOKENS, DraftPolicy

MODEL_PROBE_CALLS = 64
"""A draft model that was not worth its time is asked again after so many calls."""
_RATE_DECAY = 0.9


class Speculator:
    """Prompt look-up, and a draft model where there is one. Not thread-safe; with a model its calls take long."""

    def __init__(self, positions_max: int, hint: Sequence[int] = (), model: ModelDrafter | None = None) -> None:
        """`positions_max`: prompt and answer. `hint`: what the answer may look like, told by whoever asks."""
        self._lookup = PromptLookup(positions_max, hint)
        self._lookup_policy = DraftPolicy(PRIORS)
        self._costs = CallCosts()
        self._copied = NOTHING
        self._sent = 0
        self._by_model = None if model is None else _ModelSource(model)

    def begin(self, prompt: Sequence[int]) -> None:
        """The prompt's tokens, before the first draft. A draft model reads them now."""
        self._lookup.extend(prompt)
        if self._by_model is not None:
            self._by_model.begin(prompt)

    def draft(self, count_max: int) -> tuple[int, ...]:
        """At most `count_max` tokens that are worth sending behind the newest one."""
        count_max = min(count_max, DRAFT_MAX)
        self._copied = self._lookup.propose(max(count_max, 1))  # to learn from, where none can be sent
        sent = self._lookup_policy.choose(self._copied, self._costs) if count_max > 0 else 0
        rate = self._lookup_policy.compute_rate(self._copied, sent, self._costs)
        found = self._copied.tokens[:sent]
        is_asked = count_max > 0 and not self._costs.is_guess  # else there is nothing to compare its time with
        is_sure = self._lookup_policy.count_expected(self._copied, sent) >= SURE_TOKENS
        if self._by_model is not None and is_asked and self._by_model.is_worth(rate, is_sure):
            found = self._by_model.draft(count_max, rate)
        self._sent = len(found)
        return found

    def observe(self, drawn: Sequence[int], seconds: float | None) -> None:
        """The tokens that came and the time since a draft was asked for; None for the token after the prompt."""
        self._lookup_policy.observe(self._copied, drawn)
        self._lookup.extend(drawn)
        self._copied = NOTHING
        is_by_model = self._by_model is not None and self._by_model.observe(drawn, seconds)
        if seconds is not None and not is_by_model:
            self._costs.observe(self._sent, seconds)

    def close(self) -> None:
        """Free the draft model's memory."""
        if self._by_model is not None:
            self._by_model.close()


class _ModelSource:
    """A draft model's drafts. They take time to make, so whether to ask for one is decided by what the last gave."""

    def __init__(self, drafter: ModelDrafter) -> None:
        self.close = drafter.close
        self._drafter = drafter
        self._policy = DraftPolicy(CONFIDENCE_PRIORS)
        self._costs = CallCosts()
        self._draft: Draft | None = None
        self._tokens = self._seconds = 0.0
        self._calls_since = 0

    def begin(self, prompt: Sequence[int]) -> None:
        self._drafter.extend(prompt)
        self._drafter.catch_up()

    def is_worth(self, rate: float, is_sure: bool) -> bool:
        """Whether calls with its drafts gave more tokens per second lately, or it is time to see whether they do.

        It is not while a look-up is sure of a long draft: the model would be asked for as many tokens, one by one.
        """
        self._calls_since += 1
        if self._seconds and self._tokens / self._seconds > rate:
            return True
        return not is_sure and (not self._seconds or self._calls_since >= MODEL_PROBE_CALLS)

    def draft(self, count_max: int, rate: float) -> tuple[int, ...]:
        """As many tokens as are likelier to come than it would take to get them otherwise, at `rate` per second."""
        rate = max(rate, self._tokens / self._seconds if self._seconds else 0.0)
        chance_min = min(self._costs.compute_slope() * rate, 1.0)
        self._draft = self._drafter.propose(count_max, self._policy.estimate, chance_min)
        self._calls_since = 0
        return self._draft.tokens

    def observe(self, drawn: Sequence[int], seconds: float | None) -> bool:
        """What came; whether this source had drafted it."""
        draft, self._draft = self._draft, None
        self._drafter.extend(drawn)
        if draft is None or seconds is None:
            return False
        self._policy.observe(draft, drawn)
        self._costs.observe(len(draft.tokens), seconds)
        self._tokens = self._tokens * _RATE_DECAY + len(drawn)
        self._seconds = self._seconds * _RATE_DECAY + seconds
        return True
