"""Every family against `transformers`: the same weights and tokens, whole and in every way the engine runs them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from transformers import PreTrainedModel

from inference.engine.ort import ShardSession
from tests.unit.inference.model.families import reference
from tests.unit.inference.model.families.cases import MAIN, OPTIONS
from tests.unit.inference.model.families.reference import Case, StoredModel, compute_distance, draw_tokens
from tests.unit.inference.model.families.sparse_cases import SPARSE_MAIN, SPARSE_OPTIONS

TOKENS = draw_tokens(48)
ALL = [*MAIN, *OPTIONS, *SPARSE_MAIN, *SPARSE_OPTIONS]
SELF_TOLERANCE = 1e-5
"""Between two ways of running one model."""


@dataclass(frozen=True)
class Pair:
    """A case's model as transformers has it and as stored."""

    case: Case
    model: PreTrainedModel
    stored: StoredModel
    session: ShardSession


@pytest.fixture(scope="module", params=ALL, ids=str)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """Each case, imported from a directory of transformers 5."""
    root = tmp_path_factory.mktemp(request.param.name)
    model = reference.make_model(request.param)
    stored = reference.import_path(reference.save_model(model, root / "checkpoint"), root / "models")
    return Pair(request.param, model, stored, stored.load())


def test_logits_are_those_of_transformers(pair: Pair) -> None:
    wanted = reference.compute_reference(pair.model, TOKENS)
    assert compute_distance(reference.compute_logits(pair.session, TOKENS), wanted) <= pair.case.tolerance


def test_64_greedy_tokens_are_those_of_transformers(pair: Pair) -> None:
    generated = reference.generate_greedy(pair.session, TOKENS[:5], 64)
    likeliest = reference.compute_reference(pair.model, generated[:-1]).argmax(-1)
    assert list(generated[5:]) == list(likeliest[4:])


def test_single_positions_are_a_prefill(pair: Pair) -> None:
    whole = reference.compute_logits(pair.session, TOKENS)
    assert compute_distance(reference.compute_stepwise(pair.session, TOKENS), whole) <= SELF_TOLERANCE


def test_chunks_are_a_prefill(pair: Pair) -> None:
    whole = reference.compute_logits(pair.session, TOKENS)
    for cuts in ([7], [1, 24], [16, 17, 40]):
        assert compute_distance(reference.compute_logits(pair.session, TOKENS, cuts), whole) <= SELF_TOLERANCE


def test_drafts_that_are_taken_back_leave_nothing(pair: Pair) -> None:
    """Whatever a layer keeps of the past: all keys, those of a window, or one latent."""
    whole = reference.compute_logits(pair.session, TOKENS)
    drafted = reference.compute_drafted(pair.session, TOKENS, draw_tokens(9, seed=9), [5, 20, 21, 40])
    assert compute_distance(drafted, whole) <= SELF_TOLERANCE


def test_shards_are_the_whole(pair: Pair) -> None:
    whole = reference.compute_logits(pair.session, TOKENS)
    for cuts in ([1], [pair.stored.layers - 1], list(range(1, pair.stored.layers))):
        assert compute_distance(reference.compute_in_shards(pair.stored, TOKENS, cuts), whole) <= SELF_TOLERANCE


def test_sequences_together_are_each_alone(pair: Pair) -> None:
    sequences = [draw_tokens(count, seed=count) for count in (9, 40, 21)]
    together = reference.compute_together(pair.session, sequences, steps=6)
    for tokens, answer in zip(sequences, together, strict=True):
        alone = reference.compute_logits(pair.session, tokens)[-6:]
        assert compute_distance(answer, alone) <= SELF_TOLERANCE


@pytest.mark.parametrize("case", [*MAIN, *SPARSE_MAIN], ids=str)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_16_bit_checkpoints_keep_their_values(
    case: Case, dtype: torch.dtype, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp(case.name)
    path = reference.save_model(reference.make_model(case), root / "checkpoint", dtype)
    session = reference.import_path(path, root / "models").load()
    wanted = reference.compute_reference(reference.load_reference(path), TOKENS)
    assert compute_distance(reference.compute_logits(session, TOKENS), wanted) <= case.tolerance


@pytest.mark.parametrize("case", ALL, ids=str)
def test_configurations_of_transformers_4_say_the_same(case: Case, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp(case.name)
    model = reference.make_model(case)
    path = reference.save_model(model, root / "checkpoint")
    new = reference.import_path(path, root / "new").manifest
    old = reference.import_path(reference.edit_config(path, reference.write_as_transformers_4), root / "old").manifest
    assert old == new
    reread = reference.compute_reference(reference.load_reference(path), TOKENS)
    assert compute_distance(reread, reference.compute_reference(model, TOKENS)) <= SELF_TOLERANCE
