"""SentencePiece's BPE as llama.cpp runs it: the best-ranked pair is merged first, the leftmost of equals.

Written out here, not handed to a library: libraries rank pairs, and among pairs that make the same token the leftmost
must win. So the vocabulary needs no merges, and loading it is quick.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable
from functools import lru_cache

from inference.errors import TokenizerError
from inference.model.tokenizer.data import TokenizerData, TokenType
from inference.model.tokenizer.spelling import SPACE

_CACHED_WORDS = 1 << 14
_CACHED_CHARS_MAX = 32
_INNER_SPACE = re.compile(f"[^{SPACE}]{SPACE}")
_WORD = re.compile(f"{SPACE}*[^{SPACE}]+|{SPACE}+")


def build_sentencepiece(data: TokenizerData) -> Callable[[str], list[int]]:
    """What encodes a piece of text. Control, unknown, unused and byte tokens written out in it are not found.

    Raises TokenizerError for a vocabulary that lacks a token for some byte.
    """
    kinds = (TokenType.NORMAL, TokenType.USER_DEFINED)
    pairs = enumerate(zip(data.tokens, data.types, strict=True))
    ids = {token: index for index, (token, kind) in pairs if kind in kinds}
    byte_ids = _find_byte_ids(data)
    ranks = data.ranks

    def encode_word(word: str) -> tuple[int, ...]:
        found: list[int] = []
        for piece in _merge(word, ids, ranks):
            if piece in ids:
                found.append(ids[piece])
            else:
                found += [byte_ids[one] for one in piece.encode()]
        return tuple(found)

    encode_cached = lru_cache(_CACHED_WORDS)(encode_word)
    is_cut_at_spaces = not any(_INNER_SPACE.search(token) for token in ids)

    def encode(text: str) -> list[int]:
        escaped = text.replace(" ", SPACE)
        words = _WORD.findall(escaped) if is_cut_at_spaces else [escaped]
        return [
            one for word in words for one in (encode_cached if len(word) <= _CACHED_CHARS_MAX else encode_word)(word)
        ]

    return encode


def _merge(word: str, ids: dict[str, int], ranks: tuple[int, ...]) -> list[str]:
    """The pieces that are left when no two neighbours make a token. O(n log n) in the characters of `word`."""
    pieces = list(word)
    count = len(pieces)
    before, after = list(range(-1, count - 1)), [*range(1, count), -1]
    queue: list[tuple[int, int, int, str]] = []

    def offer(left: int, right: int) -> None:
        made = pieces[left] + pieces[right]
        token = ids.get(made)
        if token is not None:
            heapq.heappush(queue, (ranks[token], left, right, made))

    for left in range(count - 1):
        offer(left, left + 1)
    while queue:
        _, left, right, made = heapq.heappop(queue)
        # Pieces only grow or vanish, so the offer stands exactly when the two still spell what was offered.
        if not pieces[left] or not pieces[right] or len(pieces[left]) + len(pieces[right]) != len(made):
            continue
        pieces[left], pieces[right] = made, ""
        after[left] = following = after[right]
        if following >= 0:
            before[following] = left
            offer(left, following)
        if before[left] >= 0:
            offer(before[left], left)
    return [one for one in pieces if one]


def _find_byte_ids(data: TokenizerData) -> tuple[int, ...]:
    found = {
        token: index
        for index, (token, kind) in enumerate(zip(data.tokens, data.types, strict=True))
        if kind == TokenType.BYTE
    }
    missing = [one for one in range(256) if f"<0x{one:02X}>" not in found]
    if missing:
        raise TokenizerError(
            f"the vocabulary has no token for {len(missing)} bytes, such as <0x{missing[0]:02X}>: "
            "texts could not be encoded without loss; use a model with byte fallback"
        )
    return tuple(found[f"<0x{one:02X}>"] for one in range(256))
