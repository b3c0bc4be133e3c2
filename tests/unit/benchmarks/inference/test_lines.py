"""A child answers calls by name; what it refuses, or that it ended, is one line."""

from __future__ import annotations

import sys

import pytest

from benchmarks.inference.lines import CallFailed, start_child

OURS = "benchmarks.inference.ours"


def test_calls_are_answered_and_a_refused_one_disturbs_no_other() -> None:
    with start_child(OURS) as child:
        with pytest.raises(CallFailed, match=r"^KeyError: 'no_such_call'$"):
            child.call("no_such_call")
        with pytest.raises(CallFailed, match=r"^model 00 is not in /nonexistent: import or fetch it$"):
            child.call("open_store", models="/nonexistent", model="00")
        assert child.call("describe")["onnxruntime"]


def test_a_child_that_ended_is_named_by_its_last_words() -> None:
    with start_child("benchmarks.inference.nothing") as child, pytest.raises(CallFailed, match="No module named"):
        child.call("describe")


def test_an_interpreter_that_is_not_there_is_named() -> None:
    with pytest.raises(CallFailed, match="/no/python: No such file"), start_child(OURS, "/no/python"):
        pytest.fail("nothing runs")


def test_the_process_ends_with_the_block() -> None:
    with start_child(OURS, sys.executable) as child:
        child.call("describe")
    with pytest.raises((CallFailed, ValueError)):
        child.call("describe")
