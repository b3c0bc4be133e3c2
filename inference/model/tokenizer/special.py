"""Finds tokens that are matched as they are written, before any merge."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

Pieces = list[str | int]
"""Text in order: token ids, and what lies between them as text."""
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


def build_leftmost(ids: Mapping[str, int], strip_left: frozenset[int], strip_right: frozenset[int]) -> Partition:
    """The order of the `tokenizers` library: the leftmost match, of several the longest."""
    if not ids:
        return lambda text: [text] if text else []
    ordered = sorted(ids, key=len, reverse=True)
    expression = re.compile("|".join(re.escape(one) for one in ordered))

    def partition(text: str) -> Pieces:
        pieces: Pieces = []
        position = 0
        for match in expression.finditer(text):
            token = ids[match[0]]
            if match.start() < position:  # swallowed as the white space of the token before
                continue
            between = text[position : match.start()]
            pieces.append(between.rstrip() if token in strip_left else between)
            pieces.append(token)
            position = match.end()
            if token in strip_right:
                position += len(text) - position - len(text[position:].lstrip())
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
