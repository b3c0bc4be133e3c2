"""POST /v1/completions: how an answer is said, whole and in chunks, the prompt with it when it is echoed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from node.gateway.answering import Totals
from node.gateway.api.chat_form import FINISH, make_usage
from node.gateway.calls import Call, Choice
from node.gateway.errors import ApiRefusal
from node.gateway.generation import Ending, Piece, show_token, to_nats
from node.gateway.http.sse import DONE, encode_event
from proto_specs.types.sampling import TokenLogprob


@dataclass(slots=True)
class _Scores:
    """Log-probabilities as lists side by side, with each token's place in the text."""

    tokens: list[str] = field(default_factory=list)
    own: list[float | None] = field(default_factory=list)
    likeliest: list[dict[str, float] | None] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    at: int = 0

    def describe(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "token_logprobs": self.own,
            "top_logprobs": self.likeliest,
            "text_offset": self.places,
        }


class CompletionForm:
    """One answer, of one choice for each prompt and n."""

    def __init__(self, call: Call, *, echo: bool, has_logprobs: bool, includes_usage: bool) -> None:
        self._call = call
        self._id = f"cmpl-{os.urandom(12).hex()}"
        self._echo = echo
        self._has_logprobs = has_logprobs
        self._includes_usage = includes_usage
        count = len(call.asks)
        self._texts: list[list[str]] = [[] for _ in range(count)]
        self._scores = [_Scores() for _ in range(count)]
        self._finishes = [""] * count

    def open(self, choices: Sequence[Choice]) -> bytes:
        """The echoed prompts."""
        if not self._echo:
            return b""
        data = b""
        for one in choices:
            text = self._call.model.tokenizer.decode(one.ask.prompt)
            self._texts[one.index].append(text)
            if self._has_logprobs:  # a prompt's first token follows from nothing
                self._score(self._scores[one.index], one.ask.prompt[0], ())
            data += self._make_chunk(one.index, text)
        return data

    def add(self, choice: Choice, piece: Piece) -> bytes:
        """A chunk of text or scores, if there are any."""
        scores = self._scores[choice.index]
        if piece.scored is not None:
            for number, row in enumerate(piece.scored.rows):
                self._score(scores, choice.ask.prompt[piece.scored.start + 1 + number], row)
            return b""
        self._texts[choice.index].append(piece.text)
        if not self._has_logprobs:
            return self._make_chunk(choice.index, piece.text) if piece.text else b""
        chunk = _Scores(at=scores.at)
        for item in piece.tokens:
            self._score(scores, item.token, item.logprobs)
            self._score(chunk, item.token, item.logprobs)
        if not piece.text and not piece.tokens:
            return b""
        return self._make_chunk(choice.index, piece.text, chunk)

    def end(self, choice: Choice, ending: Ending) -> bytes:
        """Why it ended."""
        self._finishes[choice.index] = FINISH[ending]
        return self._make_chunk(choice.index, "", finish=FINISH[ending], myelin=choice.describe())

    def close(self, totals: Totals) -> bytes:
        """As of chat completions."""
        if not self._includes_usage and self._call.wait is None:
            return DONE
        usage = {"usage": make_usage(totals)} if self._includes_usage else {}
        return encode_event({**self._make_base(), "choices": [], **usage, "myelin": totals.myelin}) + DONE

    def fail(self, error: ApiRefusal) -> bytes:
        """As of chat completions."""
        return encode_event(error.to_openai()) + DONE

    def make_error(self, error: ApiRefusal) -> dict[str, Any]:
        """OpenAI's."""
        return error.to_openai()

    def make_whole(self, totals: Totals) -> dict[str, Any]:
        """The completion."""
        choices = [
            {
                "index": index,
                "text": "".join(texts),
                "logprobs": self._scores[index].describe() if self._has_logprobs else None,
                "finish_reason": self._finishes[index],
            }
            for index, texts in enumerate(self._texts)
        ]
        return {**self._make_base(), "choices": choices, "usage": make_usage(totals), "myelin": totals.myelin}

    def _score(self, scores: _Scores, token: int, logprobs: Sequence[TokenLogprob]) -> None:
        tokenizer = self._call.model.tokenizer
        text, spelled = show_token(tokenizer, token)
        scores.tokens.append(text)
        scores.places.append(scores.at)
        scores.at += len(bytes(spelled).decode(errors="ignore"))
        scores.own.append(to_nats(logprobs[0]) if logprobs else None)
        # several tokens may have one text: the likeliest comes first and keeps its place
        rows: dict[str, float] = {}
        for one in (*logprobs[1:], *logprobs[:1]):
            rows.setdefault(show_token(tokenizer, one.token)[0], to_nats(one))
        scores.likeliest.append(rows or None)

    def _make_base(self) -> dict[str, Any]:
        call = self._call
        return {"id": self._id, "object": "text_completion", "created": call.created, "model": call.model.name}

    def _make_chunk(
        self,
        index: int,
        text: str,
        scores: _Scores | None = None,
        finish: str | None = None,
        myelin: dict[str, Any] | None = None,
    ) -> bytes:
        logprobs = None if scores is None else scores.describe()
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        extra = {} if myelin is None else {"myelin": myelin}
        return encode_event({**self._make_base(), "choices": [choice], **extra})
