"""Speculation over links with a delay: the same questions through a path that drafts, and through one that does not.

Texts are the model's own answers, greedy. Prose is what it makes up itself; of the others three copy the question to
the word, and one does so with changes, for which no goal is set.
"""

from __future__ import annotations

import statistics
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.network.delays import CLIENT, LinkSpeed, OpenPath, open_path
from benchmarks.network.parts import Say
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer

STAGES = 3
HOP_MS = 50.0
TOKENS_MAX = 128
KINDS = ("none", "lookup", "model")
"""How the first stage drafts. The model drafts for itself: its drafts are as right as any can be."""
GOALS = {"prose": 2.5, "copy": 8.0}
_LETTER = (
    "Dear Ms. Andersen,\n\nThank you for your letter of the 14th. We have looked at the three options you described and"
    " would like to go ahead with the second one, the renovation of the east wing, starting in the first week of May."
    " The costs would be shared as follows: our company covers the materials and two thirds of the labour, and the city"
    " covers the remaining third.\n\nKind regards,\nPeter Holm"
)
_LIST = (
    "1. apples from the orchard\n2. fresh bread from the bakery\n3. two bottles of olive oil\n4. a bag of brown rice\n"
    "5. dark chocolate with almonds\n6. green tea from Japan\n7. a jar of honey\n8. tomatoes for the sauce\n"
    "9. parmesan cheese\n10. a bunch of basil"
)
_MISTAKEN = _LETTER.replace("looked", "loked").replace("third", "thrid")
QUESTIONS: dict[str, tuple[str, str]] = {
    "venice": ("prose", "Tell me about the city of Venice."),
    "lighthouse": ("prose", "Write a short story about a lighthouse keeper who finds a letter."),
    "letter": ("copy", f"Repeat the following letter word for word:\n\n{_LETTER}"),
    "quote": ("copy", f"Quote the whole letter, then say who wrote it:\n\n{_LETTER}"),
    "list": ("copy", f"Repeat this shopping list exactly:\n\n{_LIST}"),
    "mistakes": ("edit", f"Fix the spelling mistakes in this letter and write it again:\n\n{_MISTAKEN}"),
}


def delay(source: int, dest: int) -> LinkSpeed | None:
    """Every hop between stages takes its time; the client sits beside the first stage."""
    return LinkSpeed(HOP_MS) if source != CLIENT or dest else None


def measure_speculation(models: Path, model: bytes, rounds: int, say: Say) -> dict[str, Any]:
    """Tokens a second from the first token to the last, for each question and kind, and against no drafts."""
    store = ShardStore(models)
    tokenizer, layers = Tokenizer.load(store, model), store.load_manifest(model).architecture.layers
    cuts = [layers * at // STAGES for at in range(STAGES + 1)]
    rates: dict[str, dict[str, list[float]]] = {name: {kind: [] for kind in KINDS} for name in QUESTIONS}
    texts: dict[str, list[int]] = {}
    same = dict.fromkeys(QUESTIONS, True)
    with ExitStack() as stack:
        paths = {kind: stack.enter_context(open_path(models, model, cuts, delay, drafts=kind)) for kind in KINDS}
        for path in paths.values():
            path.client.ask([tokenizer.encode_chat([{"role": "user", "content": "Hello"}])], 4)
        for number in range(rounds):
            for name, (_, question) in QUESTIONS.items():
                prompt = tokenizer.encode_chat([{"role": "user", "content": question}])
                for kind in (KINDS, KINDS[::-1])[number % 2]:
                    rate, tokens = _ask(paths[kind], prompt)
                    rates[name][kind].append(rate)
                    same[name] &= texts.setdefault(name, tokens) == tokens
                    say(f"{name}, {kind}: {len(tokens)} tokens, {rate:.2f} a second")
    found: dict[str, Any] = {
        "hop_ms": HOP_MS,
        "stages": STAGES,
        "questions": {name: _sum_up(name, rates[name], len(texts[name]), same[name]) for name in QUESTIONS},
    }
    for group, goal in GOALS.items():
        ratios = [one["best"] for one in found["questions"].values() if one["group"] == group]
        found[group] = {"ratio": statistics.median(ratios), "goal": goal, "holds": statistics.median(ratios) >= goal}
    return found


def _ask(path: OpenPath, prompt: list[int]) -> tuple[float, list[int]]:
    (answer,) = path.client.ask([prompt], TOKENS_MAX)
    times_s = answer.times_s
    return (len(times_s) - 1) / (times_s[-1] - times_s[0]), answer.tokens


def _sum_up(name: str, rates: dict[str, list[float]], tokens: int, is_same: bool) -> dict[str, Any]:
    """Ratios are medians of those of each round: both runs of a ratio were neighbours in time."""
    ratios = {
        kind: round(statistics.median(one / plain for one, plain in zip(rates[kind], rates["none"], strict=True)), 2)
        for kind in KINDS[1:]
    }
    return {
        "group": QUESTIONS[name][0],
        "tokens": tokens,
        "tokens_per_s": {kind: round(statistics.median(rates[kind]), 2) for kind in KINDS},
        "ratios": ratios,
        "best": max(ratios.values()),
        "is_same_text": is_same,
    }
