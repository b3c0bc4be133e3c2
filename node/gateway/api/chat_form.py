"""POST /v1/chat/completions: how an answer is said, whole and in chunks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from inference.model.tokenizer.tokenizer import Tokenizer
from node.client.answer import Generated
from node.gateway.answering import Totals
from node.gateway.calls import Call, Choice
from node.gateway.errors import ApiRefusal
from node.gateway.generation import Ending, Piece, show_token, to_nats
from node.gateway.http.sse import DONE, encode_event
from node.gateway.tools import ToolCall, ToolScanner

FINISH = {Ending.STOP: "stop", Ending.STOP_STRING: "stop", Ending.LENGTH: "length"}


class ChatForm:
    """One answer, possibly of several choices. A choice's tool calls are said when its text is complete."""

    def __init__(
        self,
        call: Call,
        scanners: Sequence[ToolScanner],
        *,
        has_logprobs: bool,
        includes_usage: bool,
        is_parallel: bool,
    ) -> None:
        self._model = call.model.name
        self._tokenizer = call.model.tokenizer
        self._created = call.created
        self._id = f"chatcmpl-{os.urandom(12).hex()}"
        self._scanners = scanners
        self._has_logprobs = has_logprobs
        self._includes_usage = includes_usage
        self._is_parallel = is_parallel
        self._is_waited_for = call.wait is not None
        count = len(call.asks)
        self._texts: list[list[str]] = [[] for _ in range(count)]
        self._logprobs: list[list[dict[str, Any]]] = [[] for _ in range(count)]
        self._finishes = [""] * count

    def open(self, choices: Sequence[Choice]) -> bytes:
        """A first chunk for each choice, with its role."""
        return b"".join(self._make_chunk(one.index, {"role": "assistant", "content": ""}) for one in choices)

    def add(self, choice: Choice, piece: Piece) -> bytes:
        """A chunk of text, if there is any."""
        index = choice.index
        text = self._scanners[index].push(piece.text) if self._scanners else piece.text
        entries = [show_logprob(self._tokenizer, one) for one in piece.tokens] if self._has_logprobs else []
        self._texts[index].append(text)
        self._logprobs[index] += entries
        if not text and not entries:
            return b""
        return self._make_chunk(index, {"content": text}, entries)

    def end(self, choice: Choice, ending: Ending) -> bytes:
        """The last text, the calls, and why it ended."""
        index = choice.index
        data = b""
        calls: list[ToolCall] = []
        if self._scanners:
            if rest := self._scanners[index].finish():
                self._texts[index].append(rest)
                data += self._make_chunk(index, {"content": rest})
            calls = self._get_calls(index)
            for number, one in enumerate(calls):
                data += self._make_chunk(index, {"tool_calls": [{"index": number, **_show_call(one)}]})
        self._finishes[index] = "tool_calls" if calls else FINISH[ending]
        return data + self._make_chunk(index, {}, finish=self._finishes[index], myelin=choice.describe())

    def close(self, totals: Totals) -> bytes:
        """Usage and what was waited for, if asked, and the end mark. No other chunk may lack a choice."""
        if not self._includes_usage and not self._is_waited_for:
            return DONE
        base = self._make_base("chat.completion.chunk")
        usage = {"usage": make_usage(totals)} if self._includes_usage else {}
        return encode_event({**base, "choices": [], **usage, "myelin": totals.myelin}) + DONE

    def fail(self, error: ApiRefusal) -> bytes:
        """An error's event, and the end mark: a client that reads no errors still sees no silent end."""
        return encode_event(error.to_openai()) + DONE

    def make_error(self, error: ApiRefusal) -> dict[str, Any]:
        """OpenAI's."""
        return error.to_openai()

    def make_whole(self, totals: Totals) -> dict[str, Any]:
        """The chat completion."""
        choices = [self._make_choice(index) for index in range(len(self._texts))]
        base = self._make_base("chat.completion")
        return {**base, "choices": choices, "usage": make_usage(totals), "myelin": totals.myelin}

    def _make_choice(self, index: int) -> dict[str, Any]:
        text = "".join(self._texts[index])
        message: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
        if calls := self._get_calls(index):
            message["content"] = text or None
            message["tool_calls"] = [_show_call(one) for one in calls]
        logprobs = {"content": self._logprobs[index], "refusal": None} if self._has_logprobs else None
        return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": self._finishes[index]}

    def _get_calls(self, index: int) -> list[ToolCall]:
        calls = self._scanners[index].calls if self._scanners else []
        return calls if self._is_parallel else calls[:1]

    def _make_base(self, kind: str) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _make_chunk(
        self,
        index: int,
        delta: dict[str, Any],
        entries: Sequence[dict[str, Any]] = (),
        finish: str | None = None,
        myelin: dict[str, Any] | None = None,
    ) -> bytes:
        choice: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": finish}
        if entries:
            choice["logprobs"] = {"content": list(entries), "refusal": None}
        extra = {} if myelin is None else {"myelin": myelin}
        return encode_event({**self._make_base("chat.completion.chunk"), "choices": [choice], **extra})


def make_usage(totals: Totals) -> dict[str, int]:
    """Tokens, as OpenAI counts them."""
    prompt, generated = totals.prompt_tokens, totals.generated_tokens
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}


def show_logprob(tokenizer: Tokenizer, item: Generated) -> dict[str, Any]:
    """A token with its log-probability and the likeliest in its place."""
    own, likeliest = item.logprobs[0], item.logprobs[1:]
    rows = []
    for one in (own, *likeliest):
        text, spelled = show_token(tokenizer, one.token)
        rows.append({"token": text, "logprob": to_nats(one), "bytes": spelled})
    return {**rows[0], "top_logprobs": rows[1:]}


def _show_call(call: ToolCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
