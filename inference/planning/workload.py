"""What a plan is made for: the requests, and how drafts are accepted. Pure numbers, checked once."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

from inference.engine.scheduler import compute_chunk_rows
from inference.errors import ModelError
from proto_specs.limits import WINDOW_POSITIONS

KV_ITEM_BYTES = 4
"""KV memory is fp32 (inference/engine/kv_memory.py)."""
_COUNT_MAX = 1 << 24


class WorkloadError(ModelError):
    """The requests to plan for cannot be: a count of none, or an acceptance that is no share."""


class Objective(enum.Enum):
    """What a plan makes as good as it can: seconds per token of one answer, tokens per second of many, or the wait."""

    DECODE = "decode"
    THROUGHPUT = "throughput"
    FIRST_TOKEN = "first-token"


@dataclass(frozen=True)
class PlanWorkload:
    """Requests alike. `chunk_rows` of 0 cuts prompts as the engine does; `acceptance` is the chance that a draft is
    right where all before it were, `drafts` how many travel in one call (0: the best number is looked for).

    Raises WorkloadError for numbers that cannot be.
    """

    prompt_tokens: int = 512
    answer_tokens: int = 256
    sessions: int = 1
    acceptance: float = 0.6
    drafts: int = 0
    chunk_rows: int = 0

    def __post_init__(self) -> None:
        least = {"prompt_tokens": 1, "answer_tokens": 1, "sessions": 1, "drafts": 0, "chunk_rows": 0}
        for name, minimum in least.items():
            value = getattr(self, name)
            if not minimum <= value <= _COUNT_MAX:
                raise WorkloadError(f"{name} is {value}: give a number from {minimum} to {_COUNT_MAX}")
        if not 0 <= self.acceptance < 1:
            raise WorkloadError(f"acceptance is {self.acceptance}: give a share of at least 0 and below 1")

    @property
    def positions(self) -> int:
        """Positions of KV memory that every stage keeps free, of all sessions."""
        return self.sessions * (self.prompt_tokens + self.answer_tokens)

    @property
    def decode_context(self) -> int:
        """Positions that a token of the answer sees, on average."""
        return self.prompt_tokens + self.answer_tokens // 2

    @property
    def prefill_context(self) -> int:
        """Positions that a row of the prompt sees, on average."""
        return self.prompt_tokens // 2

    def compute_chunks(self, stages: int) -> tuple[int, float]:
        """(chunks of the prompt over so many stages, rows of each): of equal length, which need not be whole.

        The prompt's first window comes before the others, and is a chunk of its own.
        """
        rows = self.chunk_rows or compute_chunk_rows(self.prompt_tokens, stages)
        count = 1 + math.ceil(max(self.prompt_tokens - WINDOW_POSITIONS, 0) / rows)
        return count, self.prompt_tokens / count


def split_chunk(rows: float, is_first: bool) -> tuple[float, ...]:
    """Rows of each call that a chunk of so many becomes on a path's first stage, or on a later one.

    From a stage to the next it travels by windows: the first is computed as soon as it is there, the others together.
    """
    return (rows,) if is_first or rows <= WINDOW_POSITIONS else (WINDOW_POSITIONS, rows - WINDOW_POSITIONS)


def compute_accepted(acceptance: float, drafts: int) -> float:
    """Tokens that one pass with so many drafts gives on average: (1 - a^(k + 1)) / (1 - a), the pass's own included."""
    return (1 - acceptance ** (drafts + 1)) / (1 - acceptance)
