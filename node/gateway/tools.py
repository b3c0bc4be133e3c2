"""Calls of tools as models write them: how a conversation with tools reaches a model, and how its calls are read back.

Three forms are known, told by the model's own template: `<tool_call>{json}</tool_call>` (Hermes, Qwen), a bare object
with name and parameters (Llama 3), and `[TOOL_CALLS][...]` (Mistral). Models whose template ignores tools are told of
them in a system text of the first form.
"""

from __future__ import annotations

import enum
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from node.gateway.stops import count_overlap

OPENING = "<tool_call>"
CLOSING = "</tool_call>"
MISTRAL_MARK = "[TOOL_CALLS]"
_ASKING = """You may call functions to answer. Here are their descriptions:
<tools>
{tools}
</tools>
To call a function, answer with a JSON object with its name and arguments inside tool_call tags:
<tool_call>
{{"name": "function", "arguments": {{}}}}
</tool_call>"""


class ToolStyle(enum.Enum):
    """How a model writes calls."""

    HERMES = "hermes"
    LLAMA = "llama"
    MISTRAL = "mistral"


@dataclass(frozen=True, slots=True)
class ToolUse:
    """How a model uses tools: its style, and whether its own template tells it of them."""

    style: ToolStyle
    is_native: bool


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model makes. `arguments` is the JSON text of an object."""

    id: str
    name: str
    arguments: str


def find_tool_use(template: str) -> ToolUse:
    """By the text of a model's chat template."""
    if "tools" not in template:
        return ToolUse(ToolStyle.HERMES, is_native=False)
    if OPENING in template:
        return ToolUse(ToolStyle.HERMES, is_native=True)
    if MISTRAL_MARK in template:
        return ToolUse(ToolStyle.MISTRAL, is_native=True)
    if '"parameters"' in template:
        return ToolUse(ToolStyle.LLAMA, is_native=True)
    return ToolUse(ToolStyle.HERMES, is_native=False)


def adapt_messages(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], use: ToolUse
) -> list[dict[str, Any]]:
    """Messages in OpenAI's form as the model's template wants them."""
    if use.is_native:
        return [_adapt_native(one, use.style) for one in messages]
    adapted = [_write_out(one) for one in messages]
    if tools:
        text = _ASKING.format(tools="\n".join(json.dumps(one, ensure_ascii=False) for one in tools))
        if adapted and adapted[0]["role"] == "system":
            adapted[0] = {"role": "system", "content": f"{adapted[0]['content']}\n\n{text}"}
        else:
            adapted.insert(0, {"role": "system", "content": text})
    return adapted


def make_tool_lark(tools: Sequence[tuple[str, str]], style: ToolStyle, answer_schema: str | None = None) -> str:
    """A Lark grammar of one call of one of `tools` (name, JSON text of the schema of its arguments).

    With `answer_schema` an answer that fits it is allowed too. Names are letters, digits, `_` and `-`.
    """
    before, between, after = {
        ToolStyle.HERMES: (f'{OPENING}\\n{{\\"name\\": \\"', '\\", \\"arguments\\": ', f"}}\\n{CLOSING}"),
        ToolStyle.LLAMA: ('{\\"name\\": \\"', '\\", \\"parameters\\": ', "}"),
        ToolStyle.MISTRAL: ('[{\\"name\\": \\"', '\\", \\"arguments\\": ', "}]"),
    }[style]
    rules = []
    names = []
    for number, (name, schema) in enumerate(tools):
        names.append(f"call{number}")
        rules.append(f'call{number}: "{before}{name}{between}" args{number} "{after}"')
        rules.append(f"args{number}: %json {schema}")
    if answer_schema is not None:
        names.append("answer")
        rules.append(f"answer: %json {answer_schema}")
    return "\n".join([f"start: {' | '.join(names)}", *rules]) + "\n"


class ToolScanner:
    """Parts an answer's text, as it comes, into text for the user and calls; what may become a call is held back."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = frozenset(names)
        self._held = ""
        self._is_first = True
        self._is_whole_held = False
        self.calls: list[ToolCall] = []

    def push(self, text: str) -> str:
        """Text for the user that cannot be part of a call."""
        self._held += text
        if self._is_first and self._held.strip():
            self._is_whole_held = self._held.lstrip()[0] in "{["
            self._is_first = False
        if self._is_whole_held:
            return ""
        shown = ""
        while True:
            place = self._held.find(OPENING)
            if place < 0:
                kept = count_overlap(self._held, OPENING)
                shown += self._held[: len(self._held) - kept]
                self._held = self._held[len(self._held) - kept :]
                return shown
            end = self._held.find(CLOSING, place)
            if end < 0:
                shown += self._held[:place]
                self._held = self._held[place:]
                return shown
            read = self._read(self._held[place + len(OPENING) : end])
            behind = end + len(CLOSING)
            shown += self._held[:place] if read else self._held[:behind]
            self._held = self._held[behind:]

    def finish(self) -> str:
        """What was held back and is no call."""
        held, self._held = self._held, ""
        text = held.strip().removeprefix(MISTRAL_MARK)
        if self._is_whole_held and self._read(text):
            return ""
        if held.startswith(OPENING) and self._read(held.removeprefix(OPENING)):  # cut before its closing tag
            return ""
        return "" if self.calls and not held.strip() else held

    def _read(self, text: str) -> bool:
        """Take the calls of a JSON text; False when it holds none."""
        try:
            value = json.loads(text, parse_constant=_refuse_constant)
        except (ValueError, RecursionError):
            return False
        found = [self._read_call(one) for one in (value if isinstance(value, list) else [value])]
        if not found or None in found:
            return False
        self.calls += [one for one in found if one is not None]
        return True

    def _read_call(self, value: Any) -> ToolCall | None:
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or name not in self._names:
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        if isinstance(arguments, str):
            try:
                arguments = json.loads(arguments, parse_constant=_refuse_constant)
            except (ValueError, RecursionError):
                return None
        if not isinstance(arguments, dict):
            return None
        try:
            text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            text.encode()
        except ValueError:  # numbers beyond a float's range, halves of surrogate pairs: no JSON that can be sent
            return None
        return ToolCall(f"call_{os.urandom(12).hex()}", name, text)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _adapt_native(message: Mapping[str, Any], style: ToolStyle) -> dict[str, Any]:
    adapted = {**message, "content": message.get("content") or ""}
    if style == ToolStyle.MISTRAL and "tool_call_id" in adapted:
        adapted["tool_call_id"] = _shorten(adapted["tool_call_id"])
    calls = []
    for call in message.get("tool_calls") or ():
        named = {"name": call["function"]["name"], "arguments": _read_object(call["function"]["arguments"])}
        name = _shorten(call["id"]) if style == ToolStyle.MISTRAL else call["id"]
        calls.append({"id": name, "type": "function", "function": named})
    if calls:
        adapted["tool_calls"] = calls
    return adapted


def _write_out(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message of a model without tools: calls and results as text."""
    content = message.get("content") or ""
    for call in message.get("tool_calls") or ():
        named = {"name": call["function"]["name"], "arguments": _read_object(call["function"]["arguments"])}
        content = f"{content}\n{OPENING}\n{json.dumps(named, ensure_ascii=False)}\n{CLOSING}".lstrip("\n")
    if message["role"] == "tool":
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    return {"role": message["role"], "content": content}


def _read_object(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _shorten(name: str) -> str:
    """Mistral's ids have nine letters or digits."""
    is_short = len(name) == 9 and name.isascii() and name.isalnum()
    return name if is_short else hashlib.blake2b(name.encode(), digest_size=8).hexdigest()[:9]
