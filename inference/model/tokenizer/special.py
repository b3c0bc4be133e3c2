"""Finds tokens that are matched as they are written, before any merge."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping

Pieces = list[str | int]
"""Text in order: token ids, and what lies between them as text."""
_SPACES = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
Partition = Callable[[str], Pieces]


def build_longest_first(ids: Mapping[str, int], strip_left: frozenset[int], strip_right: frozenset[int]) -> Partition:
    """llama.cpp's order: all places of the longest token, then of the next, in what is left."""
    ordered = sorted(ids, key=lambda one: len(one.encode()), reverse=True)

    def partition(text: str) -> Pieces:
        pieces: Pieces = [text] if text else []
        for token in ordered:
            if token in text:
                pieces = list(_cut(pieces, token, ids[token], ids[token] in strip_left, ids[token] in strip_right))
        return pieces

    return partition


class Finder:
    """Finds any of many texts, the leftmost first and of several there the longest."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(texts)
        self._sizes = sorted({len(one) for one in self._texts}, reverse=True)
        # An alternation of thousands of texts takes a second to compile; first characters are few.
        first = "".join(sorted({re.escape(one[0]) for one in self._texts}))
        self._first = re.compile(f"[{first}]" if first else "(?!)")

    def find(self, text: str) -> Iterator[tuple[int, str]]:
        """Start and text of each match, none overlapping."""
        position = 0
        while (candidate := self._first.search(text, position)) is not None:
            start = candidate.start()
            pieces = (text[start : start + size] for size in self._sizes)
            found = next((one for one in pieces if one in self._texts), None)
            if found is not None:
                yield start, found
            position = start + len(found or " ")


def build_leftmost(ids: Mapping[str, int], strip_left: frozenset[int], strip_right: frozenset[int]) -> Partition:
    """The order of the `tokenizers` library: the leftmost match, of several the longest."""
    finder = Finder(ids)

    def partition(text: str) -> Pieces:
        pieces: Pieces = []
        position = 0
        for start, found in finder.find(text):
            token = ids[found]
            if start < position:  # swallowed as the white space of the token before
                continue
            between = text[position:start]
            pieces += [between.rstrip(_SPACES) if token in strip_left else between, token]
            position = start + len(found)
            if token in strip_right:
                position = len(text) - len(text[position:].lstrip(_SPACES))
        pieces.append(text[position:])
        return [one for one in pieces if one != ""]

    return partition


def _cut(pieces: Pieces, token: str, index: int, is_left: bool, is_right: bool) -> Iterator[str | int]:
    for piece in pieces:
        if isinstance(piece, int):
            yield piece
            continue
        parts = piece.split(token)
        for place, part in enumerate(parts):
            text = part.lstrip(" \t\n\v\f\r") if is_right and place else part
            text = text.rstrip(" \t\n\v\f\r") if is_left and place < len(parts) - 1 else text
            if text:
                yield text
            if place < len(parts) - 1:
                yield index
