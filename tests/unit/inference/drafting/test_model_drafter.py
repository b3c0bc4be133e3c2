"""A draft model drafts what it would say, keeps its memory in step, and is never a reason to fail."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.decoding.chooser import TokenChooser
from inference.drafting.draft import NOTHING
from inference.drafting.model_drafter import CONFIDENCE_PRIORS, CONFIDENCES, DraftModel, ModelDrafter
from inference.drafting.speculator import MODEL_PROBE_CALLS, Speculator
from inference.engine.batcher import StageBatcher
from inference.engine.engine import StageEngine
from inference.errors import DraftModelError, KvExhaustedError
from proto_specs.types.manifest import UnitKind
from proto_specs.types.sampling import SamplingParams, TokenBias
from tests.unit.inference.conftest import TinyModel
from tests.unit.inference.engine.drafted_path import Speaker, let_speculate, run_path

GREEDY = SamplingParams(0, 0, 1000, 0)
SAMPLED = SamplingParams(900, 40, 950, 7, 0, 1300, 500, 200, (TokenBias(7, 900),), stop=(b"hello",), logprobs=2)
A, B = b"a" * 32, b"b" * 32
PROMPT = tuple(np.random.default_rng(0).integers(3, 265, 40).tolist())


def load(model: TinyModel, positions: int = 2_000) -> DraftModel:
    return DraftModel(StageEngine(model.load(0, 3, decode_rows=2), positions), model.manifest)


def draft_all(drafter: ModelDrafter, count: int) -> tuple[int, ...]:
    return drafter.propose(count, lambda grade: 1.0, 0.0).tokens


def answer_alone(model: TinyModel, params: SamplingParams, count: int = 60) -> list[int]:
    engine = StageEngine(model.load(0, 3, decode_rows=2), 1_000)
    speaker = Speaker(A, PROMPT, count, TokenChooser(replace(params, stop=()), (), PROMPT))
    run_path([StageBatcher(engine)], [speaker])
    return speaker.answer


@pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_the_same_model_drafts_the_answer_itself(model: TinyModel, params: SamplingParams) -> None:
    """With penalties, at a temperature: noise belongs to the position."""
    answer = answer_alone(model, params)
    drafter = load(model).open(A, 100, params)
    drafter.extend(PROMPT)
    drafter.extend(answer[:1])
    assert draft_all(drafter, 20) == tuple(answer[1:21])


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8), st.booleans()), min_size=1, max_size=12))
@settings(deadline=None)
def test_memory_follows_the_answer(model: TinyModel, turns: list[tuple[int, int, bool]]) -> None:
    """Whatever of a draft stands, what comes next is drafted as by one that reads all of it for the first time."""
    chance = np.random.default_rng(len(turns))
    shared = load(model)
    drafter = shared.open(A, 200, SAMPLED)
    known = list(PROMPT)
    drafter.extend(PROMPT)
    for count, right, is_caught_up in turns:
        draft = draft_all(drafter, count)
        came = [*draft[:right], int(chance.integers(3, 265))]
        drafter.extend(came)
        known += came
        if is_caught_up:
            drafter.catch_up()
    fresh = shared.open(B, 200, SAMPLED)
    fresh.extend(PROMPT)
    fresh.extend(known[len(PROMPT) :])
    assert draft_all(drafter, 5) == draft_all(fresh, 5) == draft_all(drafter, 5)
    drafter.close()
    fresh.close()
    assert shared.engine.budget.free == 2_000


def test_a_draft_ends_where_it_is_unlikely_or_the_context_ends(model: TinyModel) -> None:
    shared = load(model)
    drafter = shared.open(A, 43, GREEDY)
    assert draft_all(drafter, 5) == (), "before the prompt"
    drafter.extend(PROMPT)
    assert len(draft_all(drafter, 9)) == 4
    assert len(drafter.propose(9, lambda grade: 0.5, 0.3).tokens) == 2
    assert drafter.propose(0, lambda grade: 1.0, 0.0) == NOTHING
    drafter.extend([5, 6, 7, 8])
    assert drafter.propose(9, lambda grade: 1.0, 0.0) == NOTHING
    assert shared.open(B, 10_000, GREEDY)._positions_max == 700  # noqa: SLF001


def test_grades_are_the_model_s_own_confidence(model: TinyModel) -> None:
    drafter = load(model).open(A, 100, GREEDY)
    drafter.extend(PROMPT)
    draft = drafter.propose(6, lambda grade: 1.0, 0.0)
    session = model.load(0, 3)
    rows = np.array([*PROMPT, *draft.tokens], np.uint32)
    logits = session.run(session.open_kv(60), rows, tuple(range(39, 45))).logits
    assert logits is not None
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shares = chances[np.arange(6), list(draft.tokens)]
    assert list(draft.grades) == [sum(one <= share for one in CONFIDENCES) for share in shares]
    assert len(CONFIDENCE_PRIORS) == len(CONFIDENCES) + 1


def test_lack_of_memory_makes_no_draft_and_takes_nobody_s(model: TinyModel) -> None:
    shared = load(model, 64)
    first, second = shared.open(A, 64, GREEDY), shared.open(B, 64, GREEDY)
    for drafter in (first, second):
        drafter.extend(PROMPT)
    assert len(draft_all(first, 5)) == 5
    assert draft_all(second, 5) == ()
    first.close()
    assert len(draft_all(second, 5)) == 5
    with pytest.raises(KvExhaustedError):
        [shared.open(bytes([at]) * 32, 64, GREEDY) for at in range(5)]


def test_models_that_cannot_draft_for_another_are_refused(model: TinyModel) -> None:
    with pytest.raises(DraftModelError, match="load it whole"):
        DraftModel(StageEngine(model.load(0, 2), 100), model.manifest)
    units = tuple(
        replace(one, root=bytes(32)) if one.kind == UnitKind.TOKENIZER else one for one in model.manifest.units
    )
    with pytest.raises(DraftModelError, match="another tokenizer than large"):
        DraftModel(StageEngine(model.load(0, 3), 100), replace(model.manifest, units=units, name="large"))


def speculate(
    model: TinyModel, drafter: ModelDrafter | None, params: SamplingParams, drafted_s: float, hint: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """An answer of 120 tokens over one shard with a speculator, on a clock of its own; and what each call drafted."""
    speaker = Speaker(A, PROMPT, 120, TokenChooser(replace(params, stop=()), (), PROMPT))
    speculator = Speculator(speaker.positions_max, hint, drafter)
    let_speculate(speaker, speculator, lambda count: 0.1 + drafted_s * count)
    run_path([StageBatcher(StageEngine(model.load(0, 3, decode_rows=2), 1_000))], [speaker])
    speculator.close()
    return speaker.answer, speaker.drafted


@pytest.mark.parametrize("params", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("by", ["look-up", "itself", "hint"])
def test_speculation_changes_no_token(model: TinyModel, params: SamplingParams, by: str) -> None:
    alone = answer_alone(model, params, 120)
    drafter = load(model).open(A, 159, params) if by == "itself" else None
    answer, drafted = speculate(model, drafter, params, 0.001, alone if by == "hint" else ())
    assert answer == alone
    if by != "look-up" or params == GREEDY:
        assert len(drafted) < 60


def test_a_draft_model_that_costs_more_than_it_gives_is_asked_rarely(model: TinyModel) -> None:
    drafter = load(model).open(A, 159, SAMPLED)
    _, drafted = speculate(model, drafter, SAMPLED, 1.0)
    tries = [at for at, count in enumerate(drafted) if count]
    assert len(tries) <= 2 + len(drafted) // MODEL_PROBE_CALLS
