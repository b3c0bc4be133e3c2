"""POST /v1/messages: how an answer is said, whole and as the events that Anthropic's clients read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

from node.gateway.answering import Totals
from node.gateway.calls import Call, Choice
from node.gateway.errors import ApiRefusal
from node.gateway.generation import Ending, Piece
from node.gateway.http.sse import encode_event
from node.gateway.tools import ToolCall, ToolScanner

_REASONS = {Ending.STOP: "end_turn", Ending.STOP_STRING: "stop_sequence", Ending.LENGTH: "max_tokens"}


class MessagesForm:
    """One answer: a text block, if there is text, and a block for each call."""

    def __init__(self, call: Call, scanner: ToolScanner | None, *, is_parallel: bool) -> None:
        self._call = call
        self._scanner = scanner
        self._is_parallel = is_parallel
        self._id = f"msg_{os.urandom(12).hex()}"
        self._texts: list[str] = []
        self._reason = "end_turn"
        self._stop_sequence: str | None = None

    def open(self, choices: Sequence[Choice]) -> bytes:
        """The message begins."""
        usage = {"input_tokens": len(self._call.asks[0].prompt), "output_tokens": 0}
        message = self._make_message([], None, usage)
        return _event("message_start", {"message": message})

    def add(self, choice: Choice, piece: Piece) -> bytes:
        """Text, in a block that the first of it begins."""
        return self._add_text(piece.text if self._scanner is None else self._scanner.push(piece.text))

    def end(self, choice: Choice, ending: Ending) -> bytes:
        """The text's block ends; a block for each call."""
        data = b"" if self._scanner is None else self._add_text(self._scanner.finish())
        if self._texts:
            data += _event("content_block_stop", {"index": 0})
        calls = self._get_calls()
        for number, one in enumerate(calls, start=1 if self._texts else 0):
            begun = {"type": "tool_use", "id": _name_call(one), "name": one.name, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": one.arguments}
            data += _event("content_block_start", {"index": number, "content_block": begun})
            data += _event("content_block_delta", {"index": number, "delta": delta})
            data += _event("content_block_stop", {"index": number})
        self._reason = "tool_use" if calls else _REASONS[ending]
        self._stop_sequence = choice.text.stop_string
        return data

    def close(self, totals: Totals) -> bytes:
        """Why it ended, usage and cost."""
        delta = {"stop_reason": self._reason, "stop_sequence": self._stop_sequence}
        usage = {"input_tokens": totals.prompt_tokens, "output_tokens": totals.generated_tokens}
        end = {"delta": delta, "usage": usage, "myelin": totals.myelin}
        return _event("message_delta", end) + _event("message_stop", {})

    def fail(self, error: ApiRefusal) -> bytes:
        """An error's event."""
        return encode_event(error.to_anthropic(), "error")

    def make_error(self, error: ApiRefusal) -> dict[str, Any]:
        """Anthropic's."""
        return error.to_anthropic()

    def make_whole(self, totals: Totals) -> dict[str, Any]:
        """The message."""
        blocks: list[dict[str, Any]] = [{"type": "text", "text": "".join(self._texts)}] if self._texts else []
        for one in self._get_calls():
            blocks.append(
                {"type": "tool_use", "id": _name_call(one), "name": one.name, "input": json.loads(one.arguments)}
            )
        usage = {"input_tokens": totals.prompt_tokens, "output_tokens": totals.generated_tokens}
        message = self._make_message(blocks, self._reason, usage)
        return {**message, "stop_sequence": self._stop_sequence, "myelin": totals.myelin}

    def _add_text(self, text: str) -> bytes:
        if not text:
            return b""
        begun = b""
        if not self._texts:
            begun = _event("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}})
        self._texts.append(text)
        return begun + _event("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": text}})

    def _get_calls(self) -> list[ToolCall]:
        calls = [] if self._scanner is None else self._scanner.calls
        return calls if self._is_parallel else calls[:1]

    def _make_message(self, blocks: list[dict[str, Any]], reason: str | None, usage: dict[str, int]) -> dict[str, Any]:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._call.model.name,
            "content": blocks,
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": usage,
        }


def _event(name: str, fields: dict[str, Any]) -> bytes:
    return encode_event({"type": name, **fields}, name)


def _name_call(call: ToolCall) -> str:
    return call.id.replace("call_", "toolu_", 1)
