"""Choosing a path: workers whose layer ranges join up from the first layer to the last. Pure; knows no network.

**The prediction**, in microseconds, of a prompt of P rows and N new tokens over stages i = 1..n:

    sum(wait_i)                                        before their first rows
    + C * sum(prefill_i) + (P - C) * max(prefill_i)    C = min(P, CHUNK_ROWS): the first chunk passes every stage,
                                                       behind it the slowest stage is the one that all wait for
    + N * (sum(decode_i) + sum(hop_i))                 each token passes all stages, and returns to the first
    + (round_trip_1 + round_trip_n) / 2                the prompt's way there, the answer's way back

`hop_i` leads from stage i to the next one, from the last to the first; one stage alone has none. Nobody measures it for
the client, which knows its own round trips: half of the one's and half of the other's is the way through the client,
and the direct way is not longer where the triangle inequality holds. So no hop is promised faster than was shown; a
measured one (`hops`, one way) takes its place.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from inference.errors import ModelError
from inference.path_search import PathSearch, PathStep, count_stages
from proto_specs.limits import STAGES_MAX

CHUNK_ROWS = 64
TOLERANCE_PERMILLE = 100
"""So much slower than the fastest path the cheapest one may be that `FAST` takes: nobody pays ten times for 1 %."""
GAIN_PERMILLE = 100
"""So much a path has to gain over the one taken last: below, the choice would follow noise."""
NO_HOPS: Mapping[tuple[bytes, bytes], int] = MappingProxyType({})


class Prefer(enum.StrEnum):
    """What matters most. FAST: among paths at most a tenth slower than the fastest, the cheapest. CHEAP: the cheapest,
    then the fastest."""

    FAST = "fast"
    CHEAP = "cheap"


class NoPathError(ModelError):
    """No set of active workers covers the model. `missing` are layer ranges [start, end) without a worker.

    `cheapest` is the lowest price per layer and token at which there is a path; None when there is none at any price.
    """

    def __init__(
        self, missing: tuple[tuple[int, int], ...], max_price: int | None = None, cheapest: int | None = None
    ) -> None:
        super().__init__(f"no path through the model: {_describe(missing, max_price, cheapest)}")
        self.missing = missing
        self.cheapest = cheapest


@dataclass(frozen=True, slots=True)
class LayerOffer:
    """A worker as a path sees it: layers [start, end) at nmyl per layer and token, and its times in microseconds.

    `wait_us` passes before its first row; `prefill_us` is of a row of a prompt, `decode_us` of a step of one row;
    `round_trip_us` leads from the client there and back.
    """

    worker: bytes
    start: int
    end: int
    prefill_price: int
    decode_price: int
    wait_us: int = 0
    prefill_us: int = 0
    decode_us: int = 0
    round_trip_us: int = 0

    @property
    def price(self) -> int:
        """What an order has to allow per layer and token, in nmyl."""
        return max(self.prefill_price, self.decode_price)


@dataclass(frozen=True, slots=True)
class PathLoad:
    """What a path is asked for. `hops` are one-way times between workers that were measured, in microseconds."""

    prompt_tokens: int
    new_tokens: int
    hops: Mapping[tuple[bytes, bytes], int] = field(default_factory=lambda: NO_HOPS)

    @property
    def chunk_rows(self) -> int:
        """Rows of the prompt that pass every stage before the slowest one alone counts."""
        return min(self.prompt_tokens, CHUNK_ROWS)

    def compute_price(self, path: Sequence[LayerOffer]) -> int:
        """Nmyl for a path."""
        return sum(self._compute_stage_price(one) for one in path)

    def predict_us(self, path: Sequence[LayerOffer]) -> int:
        """Microseconds that a path takes; the formula is this file's first lines."""
        chunk, ends = self.chunk_rows, path[0].round_trip_us // 2 + path[-1].round_trip_us // 2
        prefill = chunk * sum(one.prefill_us for one in path)
        prefill += (self.prompt_tokens - chunk) * max(one.prefill_us for one in path)
        step = sum(one.decode_us for one in path) + sum(self.list_hops_us(path))
        return sum(one.wait_us for one in path) + prefill + self.new_tokens * step + ends

    def list_hops_us(self, path: Sequence[LayerOffer]) -> list[int]:
        """One way from each stage to the next, and from the last to the first; empty for a single stage."""
        if len(path) < 2:
            return []
        followers = (*path[1:], path[0])
        return [
            self.hops.get((one.worker, then.worker), one.round_trip_us // 2 + then.round_trip_us // 2)
            for one, then in zip(path, followers, strict=True)
        ]

    def make_search(self, offers: Sequence[LayerOffer], layers: int) -> PathSearch:
        """The offers as steps of one number each."""
        steps = [self._make_step(one, layers) for one in offers]
        if not self.hops:
            return PathSearch(steps, layers, {})
        halves = {one.worker: one.round_trip_us // 2 for one in offers}
        savings = {
            (one, then): self.new_tokens * (hop_us - halves[one] - halves[then])
            for (one, then), hop_us in self.hops.items()
            if one in halves and then in halves
        }
        return PathSearch(steps, layers, savings)

    def _make_step(self, one: LayerOffer, layers: int) -> PathStep:
        half_us = one.round_trip_us // 2
        is_first, is_last = one.start == 0, one.end == layers
        passes = 0 if is_first and is_last else 2 * self.new_tokens
        own_us = one.wait_us + self.chunk_rows * one.prefill_us + self.new_tokens * one.decode_us
        own_us += half_us * (passes + is_first + is_last)
        rest_us = (self.prompt_tokens - self.chunk_rows) * one.prefill_us
        return PathStep(one.start, one.end, self._compute_stage_price(one), own_us, rest_us, one.worker)

    def _compute_stage_price(self, one: LayerOffer) -> int:
        a_layer = one.prefill_price * self.prompt_tokens + one.decode_price * self.new_tokens
        return (one.end - one.start) * a_layer


def choose_path(
    offers: Iterable[LayerOffer],
    layers: int,
    *,
    prompt_tokens: int,
    new_tokens: int,
    max_price: int,
    prefer: Prefer = Prefer.FAST,
    avoid: Collection[bytes] = (),
    hops: Mapping[tuple[bytes, bytes], int] = NO_HOPS,
) -> tuple[LayerOffer, ...]:
    """The best path of at most STAGES_MAX stages, whatever the order of the offers; equal ones go by their keys.

    FAST: the cheapest of the paths within TOLERANCE_PERMILLE of the shortest predicted time. CHEAP: the lowest price.
    Then by time, stages and keys. Offers dearer than `max_price` per layer and token, and workers to `avoid`, are left
    out. Raises NoPathError when none is left that covers layers 0 to `layers`; it says whether a higher price would
    find one.
    """
    known = [one for one in offers if one.worker not in avoid and 0 <= one.start < one.end <= layers]
    usable = [one for one in known if one.price <= max_price]
    if not _is_joined(usable, layers):
        raise NoPathError(_find_missing(usable, layers), max_price, _find_cheapest(known, layers, max_price))
    search = PathLoad(prompt_tokens, new_tokens, hops).make_search(usable, layers)
    fastest = search.find_fastest()
    if prefer is Prefer.CHEAP:
        found = search.find_cheapest(None, fastest)
    else:
        budget_us = search.predict_us(fastest) * (1_000 + TOLERANCE_PERMILLE) // 1_000
        found = search.find_cheapest(budget_us, fastest)
    return tuple(usable[at] for at in found)


def is_kept(last: Sequence[LayerOffer], best: Sequence[LayerOffer], load: PathLoad, prefer: Prefer) -> bool:
    """Whether the path taken last stays, rather than the best one of now: it has to gain GAIN_PERMILLE.

    In time; or, for FAST, in price. A path that was taken for its price is left only when it is slower than
    TOLERANCE_PERMILLE allows by that much more, so that it is not left and taken again at that limit.
    """
    last_price, price = load.compute_price(last), load.compute_price(best)
    last_us, best_us = load.predict_us(last), load.predict_us(best)
    if last_price > price and (prefer is Prefer.CHEAP or price * (1_000 + GAIN_PERMILLE) <= last_price * 1_000):
        return False
    if last_price < price and prefer is Prefer.FAST:
        best_us = best_us * (1_000 + TOLERANCE_PERMILLE) // 1_000
    return last_us * 1_000 <= best_us * (1_000 + GAIN_PERMILLE)


def _is_joined(offers: Sequence[LayerOffer], layers: int) -> bool:
    return count_stages([(one.start, one.end) for one in offers], layers) <= STAGES_MAX


def _find_cheapest(known: Sequence[LayerOffer], layers: int, above: int) -> int | None:
    """The lowest price above one at which there is a path; None when there is none at any."""
    prices = sorted({one.price for one in known if one.price > above})
    low, high = 0, len(prices)
    while low < high:
        middle = (low + high) // 2
        if _is_joined([one for one in known if one.price <= prices[middle]], layers):
            high = middle
        else:
            low = middle + 1
    return prices[low] if low < len(prices) else None


def _describe(missing: tuple[tuple[int, int], ...], max_price: int | None, cheapest: int | None) -> str:
    ranges = ", ".join(f"{start}-{end - 1}" for start, end in missing)
    if cheapest is not None:
        part = f"layers {ranges} are" if missing else "the model is"
        return f"{part} served, but only above your price of {max_price} nmyl: the cheapest is {cheapest} nmyl"
    if missing:
        return f"nobody serves layers {ranges}; start a worker for them, or wait for one"
    return f"the ranges served do not join up in {STAGES_MAX} stages or fewer; start a worker, or wait for one"


def _find_missing(offers: Sequence[LayerOffer], layers: int) -> tuple[tuple[int, int], ...]:
    served = [False] * layers
    for offer in offers:
        served[offer.start : offer.end] = [True] * (offer.end - offer.start)
    missing: list[tuple[int, int]] = []
    for layer, is_served in enumerate(served):
        if is_served:
            continue
        if missing and missing[-1][1] == layer:
            missing[-1] = (missing[-1][0], layer + 1)
        else:
            missing.append((layer, layer + 1))
    return tuple(missing)
