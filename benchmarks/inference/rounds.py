"""Items measured in alternating runs, ours, the peer, ours, the peer: what each side did, medians, ratio, spread."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

SESSIONS = 16
PARALLEL_CONTEXT = 64
DECODE_CONTEXTS = (64, 512)
PREFILL_TOKENS = 256
WARM_TOKENS = 4
Say = Callable[[str], None]
GROUPS = ("decode", "copy", "prefill", "parallel", "memory")
COPY_PASSAGE, COPY_CONTEXT = 72, 216
"""A passage of so many tokens, three times: what comes next is to be copied."""


class Side(Protocol):
    """What answers calls: a child process."""

    def call(self, name: str, **given: Any) -> Any:
        """The answer to one call."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to measure: a prompt of `context` tokens for each session, then `tokens` greedy ones (0: a prefill)."""

    name: str
    context: int
    tokens: int
    sessions: int = 1
    is_copied: bool = False
    """The prompt repeats a passage, and our side drafts by prompt look-up."""

    @property
    def positions(self) -> int:
        """Positions that a session takes."""
        return self.context + self.tokens

    @property
    def counted(self) -> int:
        """Tokens whose time is taken."""
        return self.sessions * (self.tokens or self.context)

    def run(self, side: Side, text: Sequence[int], tokens: int | None = None, drafts: bool = False) -> dict[str, Any]:
        """Measure once, on prompts cut from a text's tokens, each session's from another place.

        A side that `drafts` does so where the item is of copied text.
        """
        prompts = [[text[(at + place) % len(text)] for at in range(self.context)] for place in range(self.sessions)]
        if not self.tokens:
            return dict(side.call("prefill", prompt=prompts[0]))
        count = self.tokens if tokens is None else tokens
        if self.is_copied:
            passage = [text[at % len(text)] for at in range(COPY_PASSAGE)]
            prompt = [passage[at % COPY_PASSAGE] for at in range(self.context)]
            return dict(side.call("decode", prompt=prompt, tokens=count, **({"drafts": True} if drafts else {})))
        if self.sessions == 1:
            return dict(side.call("decode", prompt=prompts[0], tokens=count))
        return dict(side.call("parallel", prompts=prompts, tokens=count))


def make_items(groups: Sequence[str], tokens: int) -> list[Item]:
    """The items of the groups, in order; one session's decode stands beside the parallel one to be compared with."""
    items = []
    if "decode" in groups or "parallel" in groups:
        items.append(Item(f"decode_{PARALLEL_CONTEXT}", PARALLEL_CONTEXT, tokens))
    if "decode" in groups:
        items += [Item(f"decode_{one}", one, tokens) for one in DECODE_CONTEXTS if one != PARALLEL_CONTEXT]
    if "copy" in groups:
        items.append(Item("copy", COPY_CONTEXT, 2 * tokens, is_copied=True))
    if "prefill" in groups:
        items.append(Item(f"prefill_{PREFILL_TOKENS}", PREFILL_TOKENS, 0))
    if "parallel" in groups:
        items.append(Item(f"parallel_{SESSIONS}", PARALLEL_CONTEXT, tokens, SESSIONS))
    return items


@dataclass(slots=True)
class Series:
    """An item's runs on both sides, in the order they were made; rates in tokens a second."""

    item: Item
    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)
    same_tokens: int = 0
    """Leading tokens on which both sides agree in their first runs, of all sessions."""

    @property
    def our_median(self) -> float:
        """The median rate of our runs."""
        return statistics.median(self.ours)

    @property
    def peer_median(self) -> float:
        """The median rate of the peer's runs."""
        return statistics.median(self.peer)

    @property
    def answers(self) -> int:
        """Tokens that each side answers in a run."""
        return self.item.sessions * max(self.item.tokens, 1)

    def to_json(self) -> dict[str, Any]:
        """Runs, medians and spread of both; the ratio of the medians, and that of each round at its least and most."""
        found: dict[str, Any] = {"unit": "tokens/s", "ours": _summarise(self.ours), "peer": None, "ratio": None}
        if self.peer:
            rounds = [one / other for one, other in zip(self.ours, self.peer, strict=True)]
            found["peer"] = _summarise(self.peer)
            found["ratio"] = {"of_medians": _cut(self.our_median / self.peer_median)}
            found["ratio"] |= {"min": _cut(min(rounds)), "max": _cut(max(rounds))}
            found["same_tokens"] = {"leading": self.same_tokens, "of": self.answers}
        return found


def measure(
    items: Sequence[Item], ours: Side, peer: Side | None, text: Sequence[int], rounds: int, say: Say
) -> Iterator[Series]:
    """Each item in `rounds` alternating runs, after one short run of either side that is not counted."""
    for item in items:
        series = Series(item)
        for side in (ours, peer):
            if side is not None:
                item.run(side, text, min(WARM_TOKENS, item.tokens))
        for number in range(rounds):
            say(f"{item.name}, round {number + 1} of {rounds}")
            our_run = item.run(ours, text, drafts=True)
            series.ours.append(item.counted / our_run["seconds"])
            if peer is None:
                continue
            peer_run = item.run(peer, text)
            series.peer.append(item.counted / peer_run["seconds"])
            if number == 0:
                series.same_tokens = _count_same(our_run["tokens"], peer_run["tokens"])
        yield series


def _count_same(ours: list[Any], peer: list[Any]) -> int:
    """Leading equal tokens; of lists of sessions, their sum."""
    if ours and isinstance(ours[0], list):
        return sum(_count_same(one, other) for one, other in zip(ours, peer, strict=True))
    same = [one == other for one, other in zip(ours, peer, strict=True)]
    return same.index(False) if False in same else len(same)


def _summarise(runs: Sequence[float]) -> dict[str, Any]:
    return {
        "median": _cut(statistics.median(runs)),
        "min": _cut(min(runs)),
        "max": _cut(max(runs)),
        "runs": [_cut(one) for one in runs],
    }


def _cut(figure: float) -> float:
    """Four digits: no figure here has more."""
    return float(f"{figure:.4g}")
