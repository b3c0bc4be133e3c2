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


@dataclass(frozen=True)
class _Controls:
    expression: re.Pattern[str]
    beginnings: frozenset[str]
    ends: frozenset[str]
    chars_max: int


class Shield:
    """One conversation's replacements."""

    def __init__(self, controls: tuple[str, ...]) -> None:
        self._controls = _prepare(controls)
        self._mark = secrets.token_hex(12)
        self._covered: list[str] = []

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
        found = re.sub(f"{self._mark}([0-9a-f]{{8}})", lambda match: self._covered[int(match[1], 16)], text)
        if self._mark[:8] in found.lower():
            raise TokenizerError("the chat template cuts or alters a control token in a message: leave it out")
        return found

    def _cover_text(self, text: str, controls: _Controls) -> str:
        head, *others = controls.expression.split(text)
        found = controls.expression.findall(text)
        tail = others.pop() if others else ""
        if not found:
            head, tail = "", text
        tail = self._cover_edge(tail, controls, is_end=True)
        if found:
            head = self._cover_edge(head, controls, is_end=False)
            middle = [
                piece for pair in zip(found, [*others, ""], strict=True) for piece in (self._hide(pair[0]), pair[1])
            ]
            return head + "".join(middle) + tail
        return self._cover_edge(tail, controls, is_end=False)

    def _cover_edge(self, text: str, controls: _Controls, is_end: bool) -> str:
        edges = controls.beginnings if is_end else controls.ends
        for size in range(min(len(text), controls.chars_max - 1), 0, -1):
            edge = text[-size:] if is_end else text[:size]
            if edge in edges:
                hidden = self._hide(edge)
                return text[:-size] + hidden if is_end else hidden + text[size:]
        return text

    def _hide(self, text: str) -> str:
        self._covered.append(text)
        return f"{self._mark}{len(self._covered) - 1:08x}"


@lru_cache(8)
def _prepare(controls: tuple[str, ...]) -> _Controls | None:
    if not controls:
        return None
    ordered = sorted(controls, key=len, reverse=True)
    return _Controls(
        expression=re.compile("|".join(re.escape(one) for one in ordered)),
        beginnings=frozenset(one[:size] for one in controls for size in range(1, len(one))),
        ends=frozenset(one[size:] for one in controls for size in range(1, len(one))),
        chars_max=len(ordered[0]),
    )
