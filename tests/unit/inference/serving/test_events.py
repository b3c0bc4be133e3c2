"""Every effect of a stage names the inputs that answer it, and those are inputs that a stage takes."""

from __future__ import annotations

import ast
import inspect
from typing import get_args

import pytest

from inference.serving import events as events_module
from inference.serving.events import Compute, Computed, Conclude, Drafted, DrawnToken, StageEffect, StageInput, Stop
from inference.serving.stage_phases import StageEvent, classify
from proto_specs.types.common import ZERO_HASH

EFFECTS = get_args(StageEffect)
INPUTS = get_args(StageInput)


def test_every_class_of_the_file_is_an_effect_or_an_input() -> None:
    tree = ast.parse(inspect.getsource(events_module))
    found = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    assert found == {one.__name__ for one in (*EFFECTS, Computed, Conclude, Drafted, DrawnToken, Stop)}


@pytest.mark.parametrize("effect", EFFECTS)
def test_an_effect_names_the_inputs_that_answer_it(effect: type[StageEffect]) -> None:
    assert "answered_by" in vars(effect), "named by the effect itself"
    for answer in effect.answered_by:
        assert answer in INPUTS
        blank = object.__new__(answer)
        assert classify(blank) is not StageEvent.STRAY, "a stage takes it in mid-request"
    assert effect.answered_by or "nothing answers" in (effect.__doc__ or "").lower()


def test_a_result_answers_work_and_nothing_else() -> None:
    assert [one for one in EFFECTS if Computed in one.answered_by] == [Compute]
    assert classify(Computed(0, 1, ZERO_HASH, b"", ())) is StageEvent.RESULT
