"""Requests that generate over a path of batchers, with drafts from whom they like: the test's own first stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from inference.decoding.chooser import TokenChooser
from inference.drafting.speculator import Speculator
from inference.engine.batcher import StageAnswer, StageBatcher
from inference.errors import ModelError
from inference.serving.events import DrawnToken
from proto_specs.limits import WINDOW_POSITIONS

Draft = Callable[[Sequence[int]], Sequence[int]]
"""Answer so far -> what may come next."""


def draft_nothing(_answer: Sequence[int]) -> Sequence[int]:
    """No speculation."""
    return ()


@dataclass
class Speaker:
    """One request: what it asks and, once it ran, what it got. `rows` are the last shard's, as sent."""

    key: bytes
    prompt: Sequence[int]
    tokens_max: int
    chooser: TokenChooser
    draft: Draft = draft_nothing
    drawn: list[DrawnToken] = field(default_factory=list)
    rows: list[bytes] = field(default_factory=list)
    drafted: list[int] = field(default_factory=list)
    """Drafted rows of each call behind the prompt."""

    @property
    def answer(self) -> list[int]:
        return [one.token for one in self.drawn]

    @property
    def positions_max(self) -> int:
        return len(self.prompt) + self.tokens_max - 1

    @property
    def is_done(self) -> bool:
        return len(self.drawn) == self.tokens_max or bool(self.drawn and self.drawn[-1].is_end)

    @property
    def start(self) -> int:
        """The position of the newest token."""
        return len(self.prompt) + len(self.drawn) - 1

    @property
    def room(self) -> int:
        """How many rows may be drafted behind it."""
        return min(WINDOW_POSITIONS - self.start % WINDOW_POSITIONS, self.positions_max - self.start) - 1

    def take(self, answer: StageAnswer) -> None:
        assert answer.start == sum(map(len, self.rows)) // (len(answer.rows) // answer.count), "rows that stand, once"
        assert not self.is_done
        assert not answer.draft
        self.rows.append(answer.rows)
        self.drawn += answer.tokens

    def next_rows(self) -> tuple[int, list[int], tuple[int, ...]]:
        """Where the next call starts, its tokens, and those of them that are drafted."""
        draft = tuple(self.draft(self.answer)[: self.room])
        self.drafted.append(len(draft))
        return self.start, [self.drawn[-1].token, *draft], draft


def let_speculate(speaker: Speaker, speculator: Speculator, compute_s: Callable[[int], float]) -> None:
    """Have a speculator draft for a request. A call with so many drafted rows takes `compute_s` seconds."""
    speculator.begin(speaker.prompt)
    told = 0
    sent: int | None = None

    def draft(answer: Sequence[int]) -> Sequence[int]:
        nonlocal told, sent
        speculator.observe(answer[told:], None if sent is None else compute_s(sent))
        told = len(answer)
        found = speculator.draft(speaker.room)
        sent = len(found)
        return found

    speaker.draft = draft


def run_path(path: Sequence[StageBatcher], speakers: Sequence[Speaker]) -> None:
    """All requests side by side to their ends. Raises the first error that any of them is answered with."""
    by_key = {one.key: one for one in speakers}
    for one in speakers:
        for batcher in path:
            chooser = one.chooser if batcher is path[-1] else None
            batcher.open(one.key, one.positions_max, len(one.prompt) - 1, chooser)
        path[0].submit(one.key, 0, len(one.prompt), pack(one.prompt))
    while not all(one.is_done for one in speakers):
        planned = [(batcher, batcher.plan()) for batcher in path]
        assert any(step is not None for _, step in planned), "somebody gets on"
        for place, (batcher, step) in enumerate(planned):
            if step is None:
                continue
            answers = batcher.run(step)
            batcher.finish(step)
            for key, answer in answers:
                if isinstance(answer, ModelError):
                    raise answer
                if batcher is path[-1]:
                    _go_on(path, by_key[key], answer)
                else:
                    path[place + 1].submit(key, answer.start, answer.count, answer.rows, answer.draft)


def _go_on(path: Sequence[StageBatcher], speaker: Speaker, answer: StageAnswer) -> None:
    speaker.take(answer)
    if speaker.is_done:
        for batcher in path:
            batcher.close(speaker.key)
    elif answer.tokens:
        start, tokens, draft = speaker.next_rows()
        path[0].submit(speaker.key, start, len(tokens), pack(tokens), draft)


def pack(tokens: Sequence[int]) -> bytes:
    """Token ids as they travel."""
    return np.array(tokens, "<u4").tobytes()
