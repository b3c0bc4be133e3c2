"""Token sequences of several kinds, drawn from the checkout's own text: the same for the same number."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

from inference.engine.rows import Tokens
from inference.model.tokenizer.tokenizer import Tokenizer

KINDS = ("prose", "code", "random", "chat", "repetition", "prose", "code", "random")
_ROOT = Path(__file__).parents[2]
_CHARACTERS = 12
"""A token has at most about so many, so that a piece of text is long enough."""


@lru_cache(maxsize=2)
def _read(kind: str) -> str:
    patterns = ("docs/**/*.md", "proto_specs/*.md") if kind == "prose" else ("inference/**/*.py", "consensus/**/*.py")
    files = sorted(one for pattern in patterns for one in _ROOT.glob(pattern))
    return "\n".join(one.read_text(encoding="utf-8") for one in files)


def draw_sample(number: int, positions: int, tokenizer: Tokenizer) -> tuple[str, Tokens]:
    """Sequence `number` of that corpus: its kind, and so many token ids."""
    generator = np.random.default_rng([number, 2026])
    kind = KINDS[number % len(KINDS)]
    if kind == "random":
        return kind, generator.integers(0, tokenizer.vocab, positions).astype(np.uint32)
    if kind == "repetition":
        few = generator.integers(0, tokenizer.vocab, int(generator.integers(1, 9)))
        return kind, np.resize(few, positions).astype(np.uint32)
    text = _read("code" if kind == "code" else "prose")
    start = int(generator.integers(0, max(1, len(text) - _CHARACTERS * positions)))
    piece = text[start : start + _CHARACTERS * positions]
    if kind == "chat" and tokenizer.has_template:
        question = tokenizer.encode_chat([{"role": "user", "content": piece[: 2 * positions]}])
        return kind, np.resize(np.array([*question, *tokenizer.encode(piece)], np.uint32)[:positions], positions)
    return kind, np.resize(np.array(tokenizer.encode(piece), np.uint32)[:positions], positions)
