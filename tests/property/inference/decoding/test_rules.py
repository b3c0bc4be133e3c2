"""Any rules together: honest rounding is never rejected, and a token that cannot have been drawn always is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inference.decoding.chooser import TokenChooser
from inference.decoding.grammar import GrammarEngine, GrammarState
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias

VOCAB = 27
EOS = 26
VOCABULARY = Vocabulary((*(bytes([97 + one]) for one in range(26)), b""), {EOS: b"<eos>"})
ENGINE = GrammarEngine(VOCABULARY, {EOS}, VOCAB)
LETTERS = "[a-d]", "[a-z]", "(ab|cd|[e-p])"

TOKENS = st.integers(0, VOCAB - 2)
BIASES = st.dictionaries(TOKENS, st.integers(-5000, 5000), max_size=4).map(
    lambda found: tuple(TokenBias(token, bias) for token, bias in sorted(found.items()))
)
PARAMS = st.builds(
    SamplingParams,
    temperature_milli=st.sampled_from([0, 1, 200, 1000, 3000]),
    top_k=st.integers(0, 10),
    top_p_milli=st.sampled_from([1, 300, 900, 1000]),
    seed=st.integers(0, 2**64 - 1),
    min_p_milli=st.sampled_from([0, 1, 50, 500, 1000]),
    repetition_penalty_milli=st.sampled_from([1000, 10, 700, 1300, 10_000]),
    presence_penalty_milli=st.sampled_from([0, 500, -2000, 10_000]),
    frequency_penalty_milli=st.sampled_from([0, 300, -700]),
    logit_bias=BIASES,
)
LOGITS = st.lists(st.floats(-8, 8, width=32), min_size=VOCAB, max_size=VOCAB)


def make(params: SamplingParams, prompt: Sequence[int], history: Sequence[int], letters: str | None) -> TokenChooser:
    state: GrammarState | None = None
    if letters is not None:
        state = ENGINE.compile(GrammarKind.LARK, f"start: /{letters}*/".encode())
        allowed = state.get_allowed()
        history = [int(allowed[one % (allowed.size - 1)]) for one in history] if letters != LETTERS[2] else []
    chooser = TokenChooser(params, {EOS}, prompt, VOCABULARY, state)
    for one in history:
        chooser.advance(one)
    return chooser


Rules = tuple[SamplingParams, list[int], list[int], str | None]
RULES = st.tuples(PARAMS, st.lists(TOKENS, max_size=6), st.lists(TOKENS, max_size=6), st.sampled_from([None, *LETTERS]))


@settings(max_examples=400, deadline=None)
@given(RULES, LOGITS, st.integers(0, 2**32), st.integers(0, 1000), st.sampled_from([1e-3, 0.05]))
def test_honest_rounding_is_never_rejected(
    rules: Rules, values: list[float], jitter_seed: int, position: int, error: float
) -> None:
    logits = np.array(values, np.float32)
    jitter = np.random.default_rng(jitter_seed).uniform(-error, error, VOCAB)
    extreme = np.random.default_rng(jitter_seed + 1).choice([-error, error], VOCAB)
    for other in (logits + jitter, logits + extreme):
        drawn = make(*rules).choose(other.astype(np.float32), position)
        assert make(*rules).is_consistent(logits, position, drawn.token, 2 * error + 1e-5)


def compute_reference(
    rules: Rules, logits: NDArray[np.float32], allowed: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """The rules of fingerprint.md before the draw, token by token; -inf for what the grammar forbids."""
    params, prompt, _, _ = rules
    chooser_history = list(rules[2])
    values = [float(one) for one in logits]
    for token in range(VOCAB):
        x = values[token]
        if token in {*prompt, *chooser_history}:
            ratio = params.repetition_penalty_milli / 1000
            x = x / ratio if x > 0 else x * ratio
        count = chooser_history.count(token)
        if count:
            x -= params.frequency_penalty_milli / 1000 * count + params.presence_penalty_milli / 1000
        x += sum(one.bias_milli / 1000 for one in params.logit_bias if one.token == token)
        values[token] = x if allowed is None or token in allowed else -np.inf
    return np.array(values)


@settings(max_examples=400, deadline=None)
@given(RULES.filter(lambda one: one[3] != LETTERS[2]), LOGITS, st.integers(0, 1000))
def test_greedy_draws_the_first_of_the_rules_and_the_second_is_rejected(
    rules: Rules, values: list[float], position: int
) -> None:
    params, prompt, history, letters = rules
    greedy = SamplingParams(
        0, 0, 1000, 0, 0, params.repetition_penalty_milli, params.presence_penalty_milli,
        params.frequency_penalty_milli, params.logit_bias,
    )  # fmt: skip
    allowed = None
    if letters is not None:
        allowed = ENGINE.compile(GrammarKind.LARK, f"start: /{letters}*/".encode()).get_allowed()
        history = [int(allowed[one % (allowed.size - 1)]) for one in history]
    logits = np.array(values, np.float32)
    reference = compute_reference((greedy, prompt, history, letters), logits, allowed)
    ranked = sorted(range(VOCAB), key=lambda one: (-reference[one], one))
    chooser = make(greedy, prompt, rules[2], letters)
    margin = 0.002
    grown = margin * max(greedy.repetition_penalty_milli / 1000, 1000 / greedy.repetition_penalty_milli)
    for other in ranked[1:]:
        consistent = chooser.is_consistent(logits, position, other, margin)
        gap = reference[ranked[0]] - reference[other]
        assert consistent == (gap <= grown) or abs(gap - grown) < 1e-9
    assert chooser.choose(logits, position).token == ranked[0]


@settings(max_examples=300, deadline=None)
@given(RULES, LOGITS, st.integers(0, 1000))
def test_what_lies_outside_of_grammar_or_support_is_rejected(rules: Rules, values: list[float], position: int) -> None:
    """The draw itself is consistent without a margin, and whatever a grammar forbids is not with the widest."""
    logits = np.array(values, np.float32)
    chooser = make(*rules)
    drawn = make(*rules).choose(logits, position).token
    assert chooser.is_consistent(logits, position, drawn, 0.0)
    consistent = {one for one in range(VOCAB) if chooser.is_consistent(logits, position, one, 0.0)}
    assert consistent == {drawn} or len(np.unique(logits)) < VOCAB, "only ties of the very same logit are open"
    if rules[3] is not None:
        state = ENGINE.compile(GrammarKind.LARK, f"start: /{rules[3]}*/".encode())
        forbidden = set(range(VOCAB)) - set(state.get_allowed().tolist())
        fresh = make(rules[0], rules[1], [], rules[3])
        assert not any(fresh.is_consistent(logits, position, one, 1e6) for one in forbidden)
