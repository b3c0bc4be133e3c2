"""Every effect of the core names the input that answers it, and those inputs are the core's."""

from __future__ import annotations

import ast
import inspect
from typing import get_args

import pytest

from consensus.bft import effects as effects_module
from consensus.bft.effects import Decide, Effect, ReportEvidence
from consensus.bft.inputs import Input

EFFECTS = get_args(Effect)


def test_every_class_of_the_file_is_an_effect() -> None:
    tree = ast.parse(inspect.getsource(effects_module))
    assert {node.name for node in tree.body if isinstance(node, ast.ClassDef)} == {one.__name__ for one in EFFECTS}


@pytest.mark.parametrize("effect", EFFECTS)
def test_an_effect_names_the_input_that_answers_it(effect: type[Effect]) -> None:
    assert "answered_by" in vars(effect), "named by the effect itself"
    answer = effect.answered_by
    assert answer is None or answer in get_args(Input)
    said = "Nothing answers" if answer is None else f"`{answer.__name__}`"
    assert said in (effect.__doc__ or "")


def test_every_input_answers_one_effect() -> None:
    """`ReportEvidence` alone is not answered, and a height starts for what was decided before it."""
    assert [one for one in EFFECTS if one.answered_by is None] == [ReportEvidence]
    answers = [one.answered_by for one in EFFECTS if one.answered_by is not None]
    assert len(answers) == len(set(answers))
    assert set(answers) == set(get_args(Input))
    assert Decide.answered_by is not None
