"""Drafted rows of a request: how many of them a path computes, and which of them stand. Pure; drafts nothing itself.

Nobody is paid for rows that do not stand. So each stage counts those that the stage before had it compute, and takes no
more than the request's tokens allow; a first stage keeps to the same count.
"""

from __future__ import annotations

from inference.serving.boundary import BoundaryError
from proto_specs.limits import DRAFT_MISSES_FREE, DRAFT_MISSES_PER_TOKEN, WINDOW_POSITIONS
from proto_specs.types.request import Order, compute_positions
from proto_specs.types.wire import Rows


class DraftAllowance:
    """How many rows may be drafted behind a position, by how many were drafted in vain before."""

    def __init__(self, order: Order) -> None:
        self._prompt_tokens = order.prompt_tokens
        self._missed = 0

    def note_missed(self, rows: int) -> None:
        """So many rows did not stand."""
        self._missed += rows

    def get_room(self, position: int) -> int:
        """Rows that may be drafted behind the sure row of a generated token at `position`."""
        tokens = position - self._prompt_tokens + 1
        return max(0, DRAFT_MISSES_FREE + DRAFT_MISSES_PER_TOKEN * tokens - self._missed)

    def check(self, rows: Rows) -> None:
        """Raises BoundaryError for drafted rows that nobody may send: of the prompt, of no sure row, or too many."""
        drafted = len(rows.draft)
        if not drafted:
            return
        if rows.start < self._prompt_tokens or rows.count != 1 + drafted:
            raise BoundaryError(f"{rows.count} rows from position {rows.start} with a draft of {drafted} tokens")
        if drafted > self.get_room(rows.start):
            raise BoundaryError(f"{drafted} drafted rows at position {rows.start}, after {self._missed} in vain")


class Burst:
    """On a first stage: the tokens that come for its draft, until one differs from it, or all of it has come."""

    def __init__(self, order: Order, drafts_max: int, allowance: DraftAllowance) -> None:
        self._drawn: tuple[int, ...] = ()
        """Tokens that came since a draft was asked for."""
        self._positions = compute_positions(order.prompt_tokens, order.tokens_max)
        self._drafts_max = drafts_max
        self._allowance = allowance
        self._draft: tuple[int, ...] = ()

    def begin(self, draft: tuple[int, ...]) -> None:
        """These tokens were drafted, and their rows are computed."""
        self._draft = draft

    def take(self, token: int) -> bool:
        """The next token; whether it is the drafted one, so that its row is computed already."""
        self._drawn = (*self._drawn, token)
        is_right = self._draft[:1] == (token,)
        self._draft = self._draft[1:] if is_right else ()
        return is_right

    def pop_drawn(self) -> tuple[int, ...]:
        """What came since the last call of this."""
        drawn, self._drawn = self._drawn, ()
        return drawn

    def get_room(self, position: int) -> int:
        """Tokens that may be drafted behind the one at `position`: in its window, in the answer, and in vain."""
        ends = (position // WINDOW_POSITIONS + 1) * WINDOW_POSITIONS, self._positions
        return min(*(one - position - 1 for one in ends), self._drafts_max, self._allowance.get_room(position))
