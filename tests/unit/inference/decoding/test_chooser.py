"""Each rule of an order: what it draws, and that a verifier accepts the honest token and rejects the next one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.decoding.chooser import TokenChooser
from inference.decoding.grammar import GrammarEngine, GrammarState
from inference.errors import GrammarError, SamplingError
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias, TokenLogprob

GREEDY = SamplingParams(0, 0, 1000, 0)
HOT = SamplingParams(1000, 0, 1000, 7)
EOS = 9
WORDS = (b"zero", b"one", b"two", b"three", b"a", b"b", b"c", b"d", b"", b"")
VOCABULARY = Vocabulary(WORDS, {8: b"<pad>", 9: b"<eos>"})
MARGIN = 0.002
LOGITS = np.array([2.0, 1.9, 1.5, 1.0, 0.5, 0.25, 0.0, -1.0, -2.0, -3.0], np.float32)


def make_grammar(lark: str) -> GrammarState:
    return GrammarEngine(VOCABULARY, {EOS}, len(WORDS)).compile(GrammarKind.LARK, lark.encode())


@dataclass(frozen=True)
class Case:
    """After `history`, these rules draw `token` from LOGITS; without the rule that the case is about, `plain`.

    `second` is what the rules put next.
    """

    params: SamplingParams
    token: int
    second: int
    prompt: tuple[int, ...] = ()
    history: tuple[int, ...] = ()
    lark: str = ""

    def make(self) -> TokenChooser:
        state = make_grammar(self.lark) if self.lark else None
        chooser = TokenChooser(self.params, {EOS}, self.prompt, VOCABULARY, state)
        for one in self.history:
            assert not chooser.advance(one)
        return chooser


CASES = {
    "greedy": Case(GREEDY, 0, 1),
    "repetition of the prompt": Case(replace(GREEDY, repetition_penalty_milli=1300), 1, 0, prompt=(0,)),
    "repetition of the answer": Case(replace(GREEDY, repetition_penalty_milli=1300), 1, 0, history=(0,)),
    "repetition below 1 rewards": Case(replace(GREEDY, repetition_penalty_milli=400), 3, 0, prompt=(3,)),
    "frequency counts": Case(replace(GREEDY, frequency_penalty_milli=200), 2, 0, history=(0, 0, 0, 1, 1, 1)),
    "presence does not": Case(replace(GREEDY, presence_penalty_milli=300), 0, 1, history=(0, 0, 0, 1, 1, 1)),
    "presence": Case(replace(GREEDY, presence_penalty_milli=300), 1, 0, history=(0,)),
    "negative presence": Case(replace(GREEDY, presence_penalty_milli=-1000), 2, 0, history=(2,)),
    "the prompt is not counted": Case(replace(GREEDY, presence_penalty_milli=300), 0, 1, prompt=(0,)),
    "bias": Case(replace(GREEDY, logit_bias=(TokenBias(0, -1000), TokenBias(3, 950))), 3, 1),
    "grammar": Case(GREEDY, 4, 5, lark='start: "a" | "b" | "c"'),
    "grammar after tokens": Case(GREEDY, 1, 5, lark='start: "a" ("b" | "one")', history=(4,)),
    "grammar and bias": Case(replace(GREEDY, logit_bias=(TokenBias(6, 5000),)), 6, 4, lark='start: "a" | "c"'),
    "all of them": Case(
        replace(
            GREEDY,
            repetition_penalty_milli=1100,
            presence_penalty_milli=100,
            frequency_penalty_milli=-50,
            logit_bias=(TokenBias(5, 300),),
        ),
        5,
        4,
        prompt=(1, 7),
        history=(4, 6),
        lark="start: /[a-d]+/",
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_verifier_accepts_the_honest_token_and_rejects_the_next_one(case: Case) -> None:
    assert case.make().choose(LOGITS, 5).token == case.token
    verifier = case.make()
    assert verifier.is_consistent(LOGITS, 5, case.token, MARGIN)
    assert not verifier.is_consistent(LOGITS, 5, case.second, MARGIN)
    for other in set(range(len(WORDS))) - {case.token}:
        assert not verifier.is_consistent(LOGITS, 5, other, MARGIN), other


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_comes_second_is_drawn_where_the_first_is_not_there(case: Case) -> None:
    """So the test above rejects the closest other token, not any."""
    logits = LOGITS.copy()
    logits[case.token] = -100.0
    assert case.make().choose(logits, 5).token == case.second


def test_penalties_are_applied_in_their_order() -> None:
    """Repetition, then frequency and presence, then bias; each to what the one before left."""
    params = SamplingParams(0, 0, 1000, 0, 0, 2000, 250, 500, (TokenBias(0, 125), TokenBias(2, -125)))
    chooser = TokenChooser(params, ())
    for one in (0, 0, 2):
        chooser.advance(one)
    logits = np.array([4.0, 1.1, -1.0], np.float32)
    # token 0: 4 / 2 - 0.5 * 2 - 0.25 + 0.125 = 0.875; token 2: -1 * 2 - 0.5 - 0.25 - 0.125
    assert chooser.choose(logits, 0).token == 1
    for gap, expected in ((0.22, 1), (0.23, 0)):
        values = np.array([4.0, 1.1 - gap, -1.0], np.float32)
        fresh = TokenChooser(params, ())
        for one in (0, 0, 2):
            fresh.advance(one)
        assert fresh.choose(values, 0).token == expected, "0.875 is between"


def test_min_p_cuts_the_tail_and_a_verifier_knows_to_within_the_margin() -> None:
    logits = np.log(np.array([0.5, 0.3, 0.15, 0.05], np.float32))
    params = replace(HOT, min_p_milli=310)
    assert {TokenChooser(params, ()).choose(logits, at).token for at in range(300)} == {0, 1}
    assert {TokenChooser(replace(params, min_p_milli=290), ()).choose(logits, at).token for at in range(300)} == {
        0,
        1,
        2,
    }
    assert {TokenChooser(replace(params, min_p_milli=1000), ()).choose(logits, at).token for at in range(99)} == {0}
    favoured = [at for at in range(400) if TokenChooser(HOT, ()).choose(logits, at).token == 2]
    assert favoured
    for at in favoured:
        assert not TokenChooser(params, ()).is_consistent(logits, at, 2, MARGIN)
        assert TokenChooser(replace(params, min_p_milli=300), ()).is_consistent(logits, at, 2, MARGIN), "on the edge"


def test_min_p_is_of_the_probability_at_this_temperature() -> None:
    logits = np.log(np.array([0.8, 0.2], np.float32))
    draws = {
        heat: {
            TokenChooser(replace(HOT, temperature_milli=heat, min_p_milli=300), ()).choose(logits, at).token
            for at in range(200)
        }
        for heat in (1000, 2000)
    }
    assert draws == {1000: {0}, 2000: {0, 1}}


def test_temperature_0_reads_no_support() -> None:
    params = replace(GREEDY, top_k=1, top_p_milli=1, min_p_milli=1000)
    near = LOGITS.copy()
    near[1] = near[0] - 0.001
    assert TokenChooser(params, ()).is_consistent(near, 0, 1, MARGIN)


def test_a_generation_ends_with_an_eos_token_or_a_stop_string() -> None:
    chooser = TokenChooser(replace(GREEDY, stop=(b"eone", b"bc")), {EOS}, (), VOCABULARY)
    assert [chooser.advance(one) for one in (0, 1, 3, 8, 1)] == [False, False, False, False, True]
    chooser = TokenChooser(replace(GREEDY, stop=(b"eone", b"bc")), {EOS}, (), VOCABULARY)
    assert [chooser.advance(one) for one in (5, 5, 6)] == [False, False, True]
    assert TokenChooser(GREEDY, {EOS}).advance(EOS)
    assert not TokenChooser(GREEDY, ()).advance(EOS)


def test_a_stop_string_ends_on_the_token_that_completes_it_wherever_it_lies() -> None:
    params = replace(GREEDY, stop=(b"hre", b"o"))
    assert [TokenChooser(params, (), (), VOCABULARY).advance(one) for one in range(5)] == [
        True,
        True,
        True,
        True,
        False,
    ]


def test_a_stop_string_may_be_spread_over_as_many_tokens_as_it_has_bytes() -> None:
    chooser = TokenChooser(replace(GREEDY, stop=(b"abcd", b"x")), {EOS}, (), VOCABULARY)
    assert [chooser.advance(one) for one in (4, 5, 4, 5, 8, 6, 7)] == [False] * 6 + [True]


def test_a_chosen_token_tells_whether_it_ends() -> None:
    chooser = TokenChooser(replace(GREEDY, stop=(b"zerozero",)), {EOS}, (), VOCABULARY)
    assert [chooser.choose(LOGITS, at).is_end for at in range(2)] == [False, True]
    ending = LOGITS.copy()
    ending[EOS] = 50
    assert TokenChooser(GREEDY, {EOS}).choose(ending, 0).is_end


def test_a_grammar_lets_the_generation_end_where_it_is_complete() -> None:
    chooser = TokenChooser(GREEDY, {EOS}, (), VOCABULARY, make_grammar('start: "a" "b"?'))
    logits = np.zeros(len(WORDS), np.float32)
    logits[EOS] = 5
    assert [chooser.choose(logits, at).token for at in range(2)] == [4, EOS]
    verifier = TokenChooser(GREEDY, {EOS}, (), VOCABULARY, make_grammar('start: "a" "b"?'))
    assert not verifier.is_consistent(logits, 0, EOS, MARGIN), "nothing is written yet"


def test_after_a_token_that_the_grammar_forbids_no_token_is_consistent() -> None:
    chooser = TokenChooser(GREEDY, {EOS}, (), VOCABULARY, make_grammar("start: /[a-d]*/"))
    assert chooser.is_consistent(LOGITS, 0, 4, MARGIN)
    chooser.advance(0)
    chooser.advance(4)
    assert not any(chooser.is_consistent(LOGITS, 1, one, MARGIN) for one in range(len(WORDS)))
    with pytest.raises(GrammarError, match="token 0 is not allowed"):
        chooser.choose(LOGITS, 1)


def test_tokens_beyond_the_vocabulary_are_inconsistent_and_disturb_nothing() -> None:
    params = replace(GREEDY, repetition_penalty_milli=1300, presence_penalty_milli=100, stop=(b"x",))
    chooser = TokenChooser(params, {EOS}, (2**32 - 1, 0), VOCABULARY)
    assert not chooser.is_consistent(LOGITS, 0, 2**32 - 1, MARGIN)
    assert not chooser.advance(2**32 - 1)
    assert chooser.is_consistent(LOGITS, 0, 1, MARGIN)


def score(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    values = logits.astype(np.float64)
    return values - np.log(np.exp(values).sum())


def test_logprobs_are_of_the_raw_logits_the_drawn_first_then_the_likeliest() -> None:
    logits = np.array([1.0, 3.0, 3.0, 2.0, -40000.0], np.float32)
    params = replace(GREEDY, logprobs=4, logit_bias=(TokenBias(0, 9000),), temperature_milli=0)
    found = TokenChooser(params, ()).choose(logits, 0)
    assert found.token == 0
    assert [one.token for one in found.logprobs] == [0, 1, 2, 3]
    expected = np.rint(score(logits) * 1e6)
    assert [one.logprob_micro for one in found.logprobs] == [int(expected[one]) for one in (0, 1, 2, 3)]
    all_of_them = TokenChooser(replace(params, logprobs=21), ()).choose(logits, 0).logprobs
    assert [one.token for one in all_of_them] == [0, 1, 2, 3, 0, 4]
    assert all_of_them[-1] == TokenLogprob(4, -(2**31)), "an I32 holds it"
    assert len(TokenChooser(replace(params, logprobs=1), ()).choose(logits, 0).logprobs) == 1
    assert TokenChooser(replace(params, logprobs=0), ()).choose(logits, 0).logprobs == ()


def test_prompt_logprobs_are_of_the_next_token_of_the_prompt() -> None:
    logits = np.array([1.0, 3.0, 2.0], np.float32)
    chooser = TokenChooser(replace(GREEDY, logprobs=2, prompt_logprobs=True), (), (2, 0, 1))
    assert [one.token for one in chooser.score_prompt(logits, 0)] == [0, 1]
    assert [one.token for one in chooser.score_prompt(logits, 1)] == [1, 1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_no_numbers_draw_nothing_by_any_rule(value: float) -> None:
    logits = LOGITS.copy()
    logits[7] = value
    for params in (GREEDY, HOT, replace(GREEDY, presence_penalty_milli=5)):
        with pytest.raises(SamplingError):
            TokenChooser(params, ()).choose(logits, 0)
