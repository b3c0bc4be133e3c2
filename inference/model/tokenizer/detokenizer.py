"""Turns a stream of tokens into a stream of text that is valid UTF-8 at every step."""

from __future__ import annotations

import codecs
from collections.abc import Callable


class Detokenizer:
    """One stream's decoder. `spell` gives a token's bytes; the first space is left out when `drop_space`."""

    def __init__(self, spell: Callable[[int], bytes], drop_space: bool) -> None:
        self._spell = spell
        self._drop_space = drop_space
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """Text this token completes; a character that needs more tokens is held back."""
        spelled = self._spell(token)
        if self._drop_space and spelled:
            self._drop_space = False
            spelled = spelled.removeprefix(b" ")
        return self._decoder.decode(spelled)

    def finish(self) -> str:
        """What was held back at the end: U+FFFD for an unfinished character, else nothing."""
        return self._decoder.decode(b"", final=True)
