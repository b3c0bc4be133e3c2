"""POST /v1/responses: how an answer is said, whole and as the events that OpenAI's clients read."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from node.gateway.answering import Totals
from node.gateway.api.schemas.responses import ResponsesRequest
from node.gateway.calls import Call, Choice
from node.gateway.errors import ApiRefusal
from node.gateway.generation import Ending, Piece
from node.gateway.http.sse import encode_event


class ResponsesForm:
    """One answer: one message with one text."""

    def __init__(self, call: Call, asked: ResponsesRequest) -> None:
        self._call = call
        self._asked = asked
        self._id = f"resp_{os.urandom(12).hex()}"
        self._item_id = f"msg_{os.urandom(12).hex()}"
        self._texts: list[str] = []
        self._ending = Ending.STOP
        self._number = -1

    def open(self, choices: Sequence[Choice]) -> bytes:
        """The response, its message and its text begin."""
        begun = self._make_response("in_progress", [])
        part = {"item_id": self._item_id, "output_index": 0, "content_index": 0, "part": _make_part("")}
        return b"".join(
            (
                self._event("response.created", {"response": begun}),
                self._event("response.in_progress", {"response": begun}),
                self._event(
                    "response.output_item.added", {"output_index": 0, "item": self._make_item("in_progress", [])}
                ),
                self._event("response.content_part.added", part),
            )
        )

    def add(self, choice: Choice, piece: Piece) -> bytes:
        """Text."""
        if not piece.text:
            return b""
        self._texts.append(piece.text)
        place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        return self._event("response.output_text.delta", {**place, "delta": piece.text, "logprobs": []})

    def end(self, choice: Choice, ending: Ending) -> bytes:
        """Text, part and message end."""
        self._ending = ending
        text = "".join(self._texts)
        place = {"item_id": self._item_id, "output_index": 0, "content_index": 0}
        item = self._make_item(self._get_status(), [_make_part(text)])
        return b"".join(
            (
                self._event("response.output_text.done", {**place, "text": text, "logprobs": []}),
                self._event("response.content_part.done", {**place, "part": _make_part(text)}),
                self._event("response.output_item.done", {"output_index": 0, "item": item}),
            )
        )

    def close(self, totals: Totals) -> bytes:
        """The whole response once more, with usage and cost."""
        return self._event(f"response.{self._get_status()}", {"response": self.make_whole(totals)})

    def fail(self, error: ApiRefusal) -> bytes:
        """An error's event, which has the error both as this API and as the others say it."""
        fields = {"code": error.code, "message": error.message, "param": error.param}
        return self._event("error", {**fields, **error.to_openai()})

    def make_error(self, error: ApiRefusal) -> dict[str, Any]:
        """OpenAI's."""
        return error.to_openai()

    def make_whole(self, totals: Totals) -> dict[str, Any]:
        """The response."""
        item = self._make_item(self._get_status(), [_make_part("".join(self._texts))])
        usage = {
            "input_tokens": totals.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": totals.generated_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": totals.prompt_tokens + totals.generated_tokens,
        }
        return {**self._make_response(self._get_status(), [item]), "usage": usage, "myelin": totals.myelin}

    def _get_status(self) -> str:
        return "incomplete" if self._ending == Ending.LENGTH else "completed"

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        self._number += 1
        return encode_event({"type": name, "sequence_number": self._number, **fields}, name)

    def _make_item(self, status: str, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {"id": self._item_id, "type": "message", "status": status, "role": "assistant", "content": content}

    def _make_response(self, status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
        asked = self._asked
        return {
            "id": self._id,
            "object": "response",
            "created_at": self._call.created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
            "instructions": asked.instructions,
            "max_output_tokens": asked.max_output_tokens,
            "metadata": asked.metadata or {},
            "model": self._call.model.name,
            "output": output,
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "store": False,
            "temperature": 1.0 if asked.temperature is None else asked.temperature,
            "text": {"format": _show_format(asked)},
            "tool_choice": "auto",
            "tools": [],
            "top_p": 1.0 if asked.top_p is None else asked.top_p,
            "truncation": "disabled",
            "usage": None,
        }


def _make_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _show_format(asked: ResponsesRequest) -> dict[str, Any]:
    chosen = None if asked.text is None else asked.text.format
    if chosen is None:
        return {"type": "text"}
    if chosen.type != "json_schema":
        return {"type": chosen.type}
    return {"type": "json_schema", "name": chosen.name or "schema", "schema": chosen.json_schema}
