"""The bytes that each token stands for."""

from __future__ import annotations

from inference.errors import TokenizerError
from inference.model.tokenizer.byte_alphabet import BYTE_OF_CHAR
from inference.model.tokenizer.data import TokenType

SPACE = "\u2581"
_SILENT = (TokenType.CONTROL, TokenType.UNKNOWN, TokenType.UNUSED)


def spell_byte_level(tokens: tuple[str, ...], types: tuple[int, ...]) -> tuple[bytes, ...]:
    """Bytes of each token in GPT-2's alphabet; none for tokens that are no text.

    Raises TokenizerError when a normal token is outside the alphabet.
    """
    table = {ord(char): chr(one) for char, one in BYTE_OF_CHAR.items()}
    spelled = []
    for token, kind in zip(tokens, types, strict=True):
        if kind in _SILENT:
            spelled.append(b"")
        elif kind == TokenType.USER_DEFINED:
            spelled.append(token.encode())
        elif kind == TokenType.BYTE:
            spelled.append(bytes([int(token[3:5], 16)]))
        else:
            try:
                spelled.append(token.translate(table).encode("latin-1"))
            except UnicodeEncodeError as error:
                raise TokenizerError(
                    f"the vocabulary is not byte-level: a token holds {error.object[error.start]!r}; "
                    "use a byte-level BPE"
                ) from error
            if not all(char in BYTE_OF_CHAR for char in token):
                strange = next(char for char in token if char not in BYTE_OF_CHAR)
                raise TokenizerError(
                    f"the vocabulary is not byte-level: a token holds {strange!r}; use a byte-level BPE"
                )
    return tuple(spelled)


def spell_sentencepiece(tokens: tuple[str, ...], types: tuple[int, ...]) -> tuple[bytes, ...]:
    """Bytes of each token of a SentencePiece vocabulary: U+2581 is a space, <0x41> is a byte; user-defined as it is."""
    spelled = []
    for token, kind in zip(tokens, types, strict=True):
        if kind in _SILENT:
            spelled.append(b"")
        elif kind == TokenType.BYTE:
            spelled.append(bytes([int(token[3:5], 16)]))
        elif kind == TokenType.USER_DEFINED:
            spelled.append(token.encode())
        else:
            spelled.append(token.replace(SPACE, " ").encode())
    return tuple(spelled)
