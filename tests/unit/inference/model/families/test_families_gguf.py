"""Families from GGUF files: the same model as from a directory, and block types at the values that they hold."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind

from proto_specs.types.manifest import Form
from tests.unit.inference.model.families import gguf_export, reference
from tests.unit.inference.model.families.cases import MAIN, OPTIONS, WIDE
from tests.unit.inference.model.families.reference import Case, compute_distance, draw_tokens
from tests.unit.inference.model.families.sparse_cases import SPARSE_MAIN, SPARSE_OPTIONS, SPARSE_WIDE

TOKENS = draw_tokens(40)
FORMS = {
    Kind.Q4_0: Form.Q4_B32,
    Kind.Q4_1: Form.Q4_B32_MIN,
    Kind.Q5_0: Form.Q8_B32,
    Kind.Q8_0: Form.Q8_B32,
    Kind.Q6_K: Form.Q8_B16,
}


@pytest.mark.parametrize("case", [one for one in (*MAIN, *OPTIONS, *SPARSE_MAIN, *SPARSE_OPTIONS) if one.gguf], ids=str)
def test_a_gguf_file_is_the_same_model_as_a_directory(case: Case, tmp_path: Path) -> None:
    model = reference.make_model(case)
    path = gguf_export.write_gguf(model, case.gguf, tmp_path / "tiny.gguf", case.norm_shift)
    session = reference.import_path(path, tmp_path / "models").load()
    from_directory = reference.import_path(reference.save_model(model, tmp_path / "hf"), tmp_path / "hf-models").load()
    logits = reference.compute_logits(session, TOKENS)
    assert compute_distance(logits, reference.compute_reference(model, TOKENS)) <= case.tolerance
    assert np.array_equal(logits, reference.compute_logits(from_directory, TOKENS))


@pytest.mark.parametrize("kind", FORMS, ids=lambda one: one.name)
@pytest.mark.parametrize("case", [*WIDE, *SPARSE_WIDE], ids=str)
def test_block_types_compute_with_the_values_they_hold(case: Case, kind: Kind, tmp_path: Path) -> None:
    model = reference.make_model(case)
    path = gguf_export.write_gguf(model, case.gguf, tmp_path / "tiny.gguf", case.norm_shift, lambda name: kind)
    stored = reference.import_path(path, tmp_path / "models")
    matrices = {form for unit in stored.manifest.units for form in unit.forms} - {Form.FP32}
    assert matrices == {FORMS[kind]}
    session = stored.load()
    wanted = reference.compute_reference(model, TOKENS)
    logits = reference.compute_logits(session, TOKENS)
    assert compute_distance(logits, wanted) <= case.tolerance
    assert compute_distance(reference.compute_stepwise(session, TOKENS), logits) <= 1e-5


def test_types_mixed_in_a_file_are_kept_apart(tmp_path: Path) -> None:
    case = WIDE[0]
    kinds = {"attn_q": Kind.Q4_0, "attn_v": Kind.Q6_K, "ffn_up": Kind.Q5_0, "token_embd": Kind.Q8_0}
    model = reference.make_model(case)

    def choose(name: str) -> Kind:
        return kinds.get(name.split(".")[-2], Kind.F32)

    path = gguf_export.write_gguf(model, case.gguf, tmp_path / "tiny.gguf", case.norm_shift, choose)
    session = reference.import_path(path, tmp_path / "models").load()
    wanted = reference.compute_reference(model, TOKENS)
    assert compute_distance(reference.compute_logits(session, TOKENS), wanted) <= case.tolerance
