"""One vocabulary at work: text to token ids with control tokens found or left as text, and the bytes of each token."""

from __future__ import annotations

from collections.abc import Callable

from inference.model.tokenizer.byte_level import build_byte_level
from inference.model.tokenizer.data import TokenizerData, TokenizerKind, TokenType
from inference.model.tokenizer.pipeline import Pipeline
from inference.model.tokenizer.sentencepiece import build_sentencepiece
from inference.model.tokenizer.special import Partition, build_leftmost, build_longest_first
from inference.model.tokenizer.vocabulary import spell_tokens

_PLAIN = (TokenType.USER_DEFINED,)
_ALL = (TokenType.USER_DEFINED, TokenType.CONTROL, TokenType.UNKNOWN)


class Codec:
    """Immutable after construction and thread-safe."""

    def __init__(self, data: TokenizerData) -> None:
        """Raises TokenizerError, with the reason, for a tokenizer that we cannot reproduce exactly."""
        self._prefix = " " if data.kind == TokenizerKind.SENTENCEPIECE and data.space_prefix else ""
        self._encode: Callable[[str], list[int]]
        self._encode_first: Callable[[str], list[int]] | None = None
        late: frozenset[int] = frozenset()
        if data.kind == TokenizerKind.PIPELINE:
            pipeline = Pipeline(data)
            self._encode, self._encode_first = pipeline.encode, pipeline.encode_first
            late = pipeline.late
        elif data.kind == TokenizerKind.BYTE_LEVEL:
            self._encode = build_byte_level(data)
        else:
            self._encode = build_sentencepiece(data)
        self.spelled = spell_tokens(data)
        self._find_plain = _build_partition(data, _PLAIN, late)
        self._find_all = _build_partition(data, _ALL, late)

    def encode(self, text: str, allow_special: bool, restore: Callable[[str], str] = str) -> list[int]:
        """Token ids. With `allow_special` control tokens written out are found; `restore` then writes each text between
        them anew, and what it writes stays text."""
        ids: list[int] = []
        is_first = True
        prefix = self._prefix
        for piece in self._find_all(text) if allow_special else self._find_plain(text):
            if isinstance(piece, int):
                ids.append(piece)
                prefix = self._prefix
            elif self._encode_first is not None and is_first:
                ids += self._encode_first(restore(piece))
            else:
                ids += self._encode(prefix + restore(piece))
                prefix = ""
            is_first = False
        return ids


def _build_partition(data: TokenizerData, kinds: tuple[TokenType, ...], late: frozenset[int]) -> Partition:
    pairs = enumerate(zip(data.tokens, data.types, strict=True))
    ids = {token: index for index, (token, kind) in pairs if kind in kinds}
    left, right = frozenset(data.strip_left), frozenset(data.strip_right)
    if data.kind != TokenizerKind.PIPELINE:
        return build_longest_first(ids, left, right)
    first = build_leftmost({token: one for token, one in ids.items() if one not in late}, left, right)
    if not late:
        return first
    second = build_leftmost({token: one for token, one in ids.items() if one in late}, left, right)
    return lambda text: [one for piece in first(text) for one in ([piece] if isinstance(piece, int) else second(piece))]
