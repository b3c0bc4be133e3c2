"""Choosing a path: workers whose layer ranges join up from the first layer to the last. Pure; knows no network."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from inference.errors import ModelError
from proto_specs.limits import STAGES_MAX


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
    """A worker as a path sees it: layers [start, end) at nmyl per layer and token.

    `rank` orders offers that are equal otherwise: lower is better (such as milliseconds to reach it).
    """

    worker: bytes
    start: int
    end: int
    prefill_price: int
    decode_price: int
    rank: int = 0

    @property
    def price(self) -> int:
        """What an order has to allow per layer and token, in nmyl."""
        return max(self.prefill_price, self.decode_price)


def choose_path(
    offers: Iterable[LayerOffer], layers: int, max_price: int, avoid: Collection[bytes] = ()
) -> tuple[LayerOffer, ...]:
    """The path over the fewest stages, then the lowest price, then the best ranks, then the lowest keys.

    Offers dearer than `max_price` per layer and token, and workers to `avoid`, are left out. Raises NoPathError when
    none is left that covers layers 0 to `layers`; it says whether a higher price would find one.
    """
    known = [one for one in offers if one.worker not in avoid and 0 <= one.start < one.end <= layers]
    usable = [one for one in known if one.price <= max_price]
    found = _find_path(usable, layers)
    if found is not None:
        return found
    cheapest = next((at for at in _list_prices(known, max_price) if _find_path(known, layers, at) is not None), None)
    raise NoPathError(_find_missing(usable, layers), max_price, cheapest)


def _find_path(usable: list[LayerOffer], layers: int, max_price: int | None = None) -> tuple[LayerOffer, ...] | None:
    # The best way to each joint: its rank (stages, price, ranks, keys), and the offers it takes.
    start: tuple[tuple[int, int, int, tuple[bytes, ...]], tuple[LayerOffer, ...]] = ((0, 0, 0, ()), ())
    best = {0: start}
    for at in range(layers):
        if at not in best:
            continue
        (stages, price, ranks, keys), path = best[at]
        for offer in usable:
            if offer.start != at or (max_price is not None and offer.price > max_price):
                continue
            total = price + (offer.end - offer.start) * (offer.prefill_price + offer.decode_price)
            rank = (stages + 1, total, ranks + offer.rank, (*keys, offer.worker))
            if offer.end not in best or rank < best[offer.end][0]:
                best[offer.end] = (rank, (*path, offer))
    if layers not in best or len(best[layers][1]) > STAGES_MAX:
        return None
    return best[layers][1]


def _list_prices(offers: list[LayerOffer], above: int) -> list[int]:
    return sorted({one.price for one in offers if one.price > above})


def _describe(missing: tuple[tuple[int, int], ...], max_price: int | None, cheapest: int | None) -> str:
    ranges = ", ".join(f"{start}-{end - 1}" for start, end in missing)
    if cheapest is not None:
        part = f"layers {ranges} are" if missing else "the model is"
        return f"{part} served, but only above your price of {max_price} nmyl: the cheapest is {cheapest} nmyl"
    if missing:
        return f"nobody serves layers {ranges}; start a worker for them, or wait for one"
    return f"the ranges served do not join up in {STAGES_MAX} stages or fewer; start a worker, or wait for one"


def _find_missing(offers: list[LayerOffer], layers: int) -> tuple[tuple[int, int], ...]:
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
