"""The sequences that a model is calibrated with: texts of several kinds, random tokens, repetition, a long one."""

from __future__ import annotations

import numpy as np

from inference.engine.rows import Tokens
from inference.model.tokenizer.tokenizer import Tokenizer
from proto_specs.limits import WINDOW_POSITIONS

LONG = 4
"""The long sequence has so many times the positions of the others."""

PROSE = (
    "The history of computing began with mechanical devices, and with people who used them. By 1890 a census could be"
    " counted by machines that read holes in cards; fifty years later a machine could hold the program itself. What"
    " changed was not what could be computed, but who could afford it. Water boils at 100 degrees at sea level; on a"
    " mountain of 3,000 m it boils at 90. A ship that leaves the harbour at noon and sails north at eleven knots is"
    " back, if the wind holds, before the tide turns. 'Is that so?' she asked, and closed the book. "
)
CODE = (
    "def merge(left: list[int], right: list[int]) -> list[int]:\n    found, i, j = [], 0, 0\n    while i < len(left)"
    " and j < len(right):\n        if left[i] <= right[j]:\n            found.append(left[i]); i += 1\n        else:\n"
    "            found.append(right[j]); j += 1\n    return found + left[i:] + right[j:]\n\nSELECT name, SUM(price * 3)"
    ' FROM orders WHERE day >= \'2024-01-01\' GROUP BY name;\n{"id": 17, "tags": ["a", "b"], "ok": true}\n'
)
SCRIPTS = (
    "Où est la gare? Die Straße ist naß. Где находится вокзал? 駅はどこですか。 车站在哪里? المحطة أين? Πού είναι ο"
    " σταθμός; स्टेशन कहाँ है? 1,234,567.89 € ≠ £12 → ∑ αβγ 🙂🚉 "
)
QUESTION = "Explain how photosynthesis works, step by step, and name one plant that does without sunlight."


def make_samples(tokenizer: Tokenizer, windows: int, context_max: int) -> dict[str, Tokens]:
    """Token ids by kind, of `windows` windows each (the long one of more), within the model's context."""
    count = min(windows * WINDOW_POSITIONS, context_max)
    drawn = np.random.default_rng(13)
    question = tokenizer.encode_chat([{"role": "user", "content": QUESTION}]) if tokenizer.has_template else []
    texts = {
        "prose": tokenizer.encode(PROSE),
        "code": tokenizer.encode(CODE),
        "scripts": tokenizer.encode(SCRIPTS),
        "chat": [*question, *tokenizer.encode(PROSE)],
    }
    samples = {kind: np.resize(np.array(ids, np.uint32), count) for kind, ids in texts.items()}
    samples["random tokens"] = drawn.integers(0, tokenizer.vocab, count).astype(np.uint32)
    samples["repetition"] = np.resize(drawn.integers(0, tokenizer.vocab, 3).astype(np.uint32), count)
    long = [*tokenizer.encode(CODE), *tokenizer.encode(PROSE), *tokenizer.encode(SCRIPTS)]
    samples["long"] = np.resize(np.array(long, np.uint32), min(LONG * count, context_max))
    return samples
