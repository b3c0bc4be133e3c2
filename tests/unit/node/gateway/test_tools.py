"""Calls of tools: each style read back exactly, whatever the pieces; what is no call stays text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from node.gateway.grammars import GrammarJudge
from node.gateway.tools import (
    ToolScanner,
    ToolStyle,
    ToolUse,
    adapt_messages,
    find_tool_use,
    make_tool_lark,
)
from proto_specs.types.sampling import GrammarKind
from tests.unit.node.gateway.fake_inference import make_model

MODEL = make_model()
CALL = {"name": "f", "arguments": {"a": 1}}
HERMES = f"<tool_call>\n{json.dumps(CALL)}\n</tool_call>"
TEXTS = {
    "hermes": (HERMES, ["f"]),
    "hermes, twice": (f"{HERMES}\n{HERMES}", ["f", "f"]),
    "hermes, cut before its end": (HERMES.removesuffix("</tool_call>"), ["f"]),
    "llama": ('{"name": "f", "parameters": {"a": 1}}', ["f"]),
    "mistral": (f"[TOOL_CALLS][{json.dumps(CALL)}]", ["f"]),
    "mistral, its mark a control token": (f" [{json.dumps(CALL)}, {json.dumps(CALL)}]", ["f", "f"]),
    "arguments as a text": ('<tool_call>{"name": "f", "arguments": "{\\"a\\": 1}"}</tool_call>', ["f"]),
}


def scan(text: str, size: int) -> tuple[str, ToolScanner]:
    scanner = ToolScanner(["f", "g"])
    shown = "".join(scanner.push(text[at : at + size]) for at in range(0, len(text), size))
    return shown + scanner.finish(), scanner


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_calls_are_read(name: str, size: int) -> None:
    text, names = TEXTS[name]
    shown, scanner = scan(text, size)
    assert [one.name for one in scanner.calls] == names
    assert {json.dumps(json.loads(one.arguments)) for one in scanner.calls} == {'{"a": 1}'}
    assert shown.strip() == ""
    assert len({one.id for one in scanner.calls}) == len(names)


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "a < b and <tool",
        "<tool_call>{broken</tool_call> after",
        '<tool_call>{"name": "unknown", "arguments": {}}</tool_call>',
        '{"answer": 1}',
        "[1, 2]",
        '{"name": "f", "arguments": [1]}',
        '{"name": ["f"]}',
        "[" * 5_000,
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_what_is_no_call_stays_text(text: str, size: int) -> None:
    shown, scanner = scan(text, size)
    assert (shown, scanner.calls) == (text, [])


def test_text_before_a_call_is_shown_at_once() -> None:
    scanner = ToolScanner(["f"])
    assert scanner.push("Let me see <tool_c") == "Let me see "
    assert scanner.push("all>") == ""


@pytest.mark.parametrize("style", ToolStyle)
async def test_a_forced_call_is_read_back(style: ToolStyle) -> None:
    """The grammar takes what its style writes, and the engine takes the grammar."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    lark = make_tool_lark([("f", json.dumps(schema)), ("g-2", "{}")], style)
    assert await GrammarJudge().find_fault(MODEL, GrammarKind.LARK, lark) == ""
    either = make_tool_lark([("f", "{}")], style, "{}")
    assert await GrammarJudge().find_fault(MODEL, GrammarKind.LARK, either) == ""


async def test_faults_are_told_in_a_line() -> None:
    judge = GrammarJudge()
    assert "foo" in await judge.find_fault(MODEL, GrammarKind.LARK, "start: foo")
    assert await judge.find_fault(MODEL, GrammarKind.JSON_SCHEMA, '{"type": "nonsense"}')
    assert await judge.find_fault(MODEL, GrammarKind.JSON_SCHEMA, '{"type": "object"}') == ""


def test_the_template_says_the_style() -> None:
    assert find_tool_use("{{ messages }}") == ToolUse(ToolStyle.HERMES, is_native=False)
    assert find_tool_use("{% if tools %}<tool_call>{% endif %}") == ToolUse(ToolStyle.HERMES, is_native=True)
    assert find_tool_use("{% if tools %}[TOOL_CALLS]{% endif %}") == ToolUse(ToolStyle.MISTRAL, is_native=True)
    assert find_tool_use('{% if tools %}"parameters"{% endif %}') == ToolUse(ToolStyle.LLAMA, is_native=True)
    assert find_tool_use("{% if tools %}?{% endif %}") == ToolUse(ToolStyle.HERMES, is_native=False)


def test_conversations_reach_a_model_without_tools_as_text() -> None:
    made = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    turns: list[dict[str, Any]] = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": None, "tool_calls": [made]},
        {"role": "tool", "tool_call_id": "1", "content": "12"},
    ]
    plain = adapt_messages(turns, [{"name": "f"}], ToolUse(ToolStyle.HERMES, is_native=False))
    assert [one["role"] for one in plain] == ["system", "user", "assistant", "user"]
    assert HERMES in plain[2]["content"]
    assert "12" in plain[3]["content"]
    native = adapt_messages(turns, [], ToolUse(ToolStyle.MISTRAL, is_native=True))
    assert native[1]["tool_calls"][0]["function"]["arguments"] == {"a": 1}
    assert native[1]["tool_calls"][0]["id"] == native[2]["tool_call_id"]
    assert len(native[2]["tool_call_id"]) == 9


@pytest.mark.parametrize("value", ["1e999", "-1e999", '"\\ud800"', '{"\\udfff": 1}'])
def test_arguments_that_no_answer_could_carry_are_text(value: str) -> None:
    """A client can have a model write them, and they would fail where the answer becomes JSON or UTF-8."""
    text = f'{{"name": "f", "arguments": {{"a": {value}}}}}'
    scanner = ToolScanner(["f"])
    assert scanner.push(text) + scanner.finish() == text
    assert not scanner.calls
