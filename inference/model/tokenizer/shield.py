"""Keeps control tokens that users write out apart from those that a template writes.

Each is replaced by a random text before the template sees it, and put back after control tokens were found. So are ends
and beginnings of texts that could make a control token together with what the template puts beside them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from inference.errors import TokenizerError
from inference.model.tokenizer.special import Finder


@dataclass(frozen=True)
class _Controls:
    finder: Finder
    beginnings: frozenset[str]
    ends: frozenset[str]
    chars_max: int


class Shield:
    """One conversation's replacements."""

    def __init__(self, controls: tuple[str, ...]) -> None:
        self._controls = _prepare(controls)
        self._mark = secrets.token_hex(12)
        self._covered: list[str] = []
        self.uncovered = 0
        """How many replacements `uncover` has put back so far."""

    def cover(self, value: Any) -> Any:
        """The same JSON with every control token in its texts, keys too, replaced."""
        if isinstance(value, str):
            return value if self._controls is None else self._cover_text(value, self._controls)
        if isinstance(value, Mapping):
            return {self.cover(key): self.cover(one) for key, one in value.items()}
        if isinstance(value, Sequence):
            return [self.cover(one) for one in value]
        return value

    def uncover(self, text: str) -> str:
        """The text with the control tokens put back.

        Raises TokenizerError when a replacement was cut or altered.
        """
        if not self._covered:
            return text
        expression = re.compile(f"{self._mark}([0-9a-f]{{8}})")
        found, count = expression.subn(lambda match: self._covered[int(match[1], 16)], text)
        self.uncovered += count
        if self._mark[:8] in found.lower():
            raise TokenizerError("the chat template cuts or alters a control token in a message: leave it out")
        return found

    def _cover_text(self, text: str, controls: _Controls) -> str:
        parts: list[str] = []
        position = 0
        for start, found in controls.finder.find(text):
            parts += [text[position:start], self._hide(found)]
            position = start + len(found)
        kept, tail = _split_edge(text[position:], controls.beginnings, controls.chars_max, is_end=True)
        parts += [kept, self._hide(tail)]
        head, kept = _split_edge(parts[0], controls.ends, controls.chars_max, is_end=False)
        parts[0] = self._hide(head) + kept
        return "".join(parts)

    def _hide(self, text: str) -> str:
        if not text:
            return ""
        self._covered.append(text)
        return f"{self._mark}{len(self._covered) - 1:08x}"


def _split_edge(text: str, edges: frozenset[str], chars_max: int, is_end: bool) -> tuple[str, str]:
    """The text cut so that its end, or its beginning, is the longest of `edges`; that part may be empty."""
    for size in range(min(len(text), chars_max - 1), 0, -1):
        place = len(text) - size if is_end else size
        if (text[place:] if is_end else text[:place]) in edges:
            return text[:place], text[place:]
    return (text, "") if is_end else ("", text)


@lru_cache(8)
def _prepare(controls: tuple[str, ...]) -> _Controls | None:
    if not controls:
        return None
    return _Controls(
        finder=Finder(controls),
        beginnings=frozenset(one[:size] for one in controls for size in range(1, len(one))),
        ends=frozenset(one[size:] for one in controls for size in range(1, len(one))),
        chars_max=max(map(len, controls)),
    )
