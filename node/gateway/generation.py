"""Tokens of one answer become text: valid at every step, without stop strings, with the log-probabilities asked for."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from inference.model.tokenizer.tokenizer import Tokenizer
from inference.serving.client import PromptScored
from node.client.answer import Generated
from node.gateway.stops import StopTrimmer
from proto_specs.types.sampling import TokenLogprob
from proto_specs.types.wire import FinishReason


class Ending(enum.Enum):
    """Why an answer ended."""

    STOP = "stop"
    STOP_STRING = "stop_string"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class Piece:
    """What came at once: text that may go out, and the tokens behind it with their log-probabilities, if ordered."""

    text: str
    tokens: tuple[Generated, ...] = ()
    scored: PromptScored | None = None


class ChoiceText:
    """One answer as text, token by token. With `drops_all` no token is the client's: it has its prompt scored."""

    def __init__(
        self, tokenizer: Tokenizer, stops: Sequence[str], *, has_logprobs: bool = False, drops_all: bool = False
    ) -> None:
        self._tokenizer = tokenizer
        self._stream = tokenizer.stream()
        self._trimmer = StopTrimmer(stops)
        self._has_logprobs = has_logprobs
        self._drops_all = drops_all
        self._finish = FinishReason.NONE
        self.tokens = 0

    @property
    def ending(self) -> Ending:
        """Why it ended."""
        if self._trimmer.found is not None:
            return Ending.STOP_STRING
        return Ending.LENGTH if self._finish == FinishReason.LENGTH else Ending.STOP

    @property
    def stop_string(self) -> str | None:
        """The stop string that ended it."""
        return self._trimmer.found

    def push(self, item: Generated) -> Piece:
        """The next token."""
        self.tokens += 1
        self._finish = item.finish
        if self._drops_all:
            return Piece("")
        is_end = item.finish == FinishReason.STOP and self._tokenizer.is_eos(item.token)
        text = self._trimmer.push("" if is_end else self._stream.push(item.token))
        if item.finish != FinishReason.NONE:
            text += self._trimmer.push(self._stream.finish()) + self._trimmer.finish()
        return Piece(text, (item,) if self._has_logprobs else ())


def show_token(tokenizer: Tokenizer, token: int) -> tuple[str, list[int]]:
    """A token as log-probabilities name it: its text, and its bytes; bytes that are no text are written out."""
    spelled = tokenizer.get_token_bytes(token) if token < tokenizer.vocab else b""
    try:
        return spelled.decode(), list(spelled)
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{one:02x}" for one in spelled), list(spelled)


def to_nats(entry: TokenLogprob) -> float:
    """A log-probability."""
    return entry.logprob_micro / 1_000_000
