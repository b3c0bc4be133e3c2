"""Choosing a path: workers whose layer ranges join up from the first layer to the last. Pure; knows no network."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from inference.errors import ModelError
from proto_specs.limits import STAGES_MAX


class NoPathError(ModelError):
    """No set of active workers covers the model. `missing` are layer ranges [start, end) without a worker."""

    def __init__(self, missing: tuple[tuple[int, int], ...]) -> None:
        ranges = ", ".join(f"{start}-{end - 1}" for start, end in missing)
        unjoined = f"the ranges served do not join up in {STAGES_MAX} stages or fewer"
        detail = f"nobody serves layers {ranges}" if missing else unjoined
        super().__init__(f"no path through the model: {detail}; start a worker for them, or wait for one")
        self.missing = missing


@dataclass(frozen=True, slots=True)
class LayerOffer:
    """A worker as a path sees it: layers [start, end) at nmyl per layer and token."""

    worker: bytes
    start: int
    end: int
    prefill_price: int
    decode_price: int


def choose_path(
    offers: Iterable[LayerOffer], layers: int, max_price: int, avoid: Collection[bytes] = ()
) -> tuple[LayerOffer, ...]:
    """The path over the fewest stages, then the lowest price, then the lowest keys, so that it is reproducible.

    Offers dearer than `max_price` per layer and token are left out. Raises NoPathError when none is left that covers
    layers 0 to `layers`.
    """
    usable = [
        one
        for one in offers
        if one.worker not in avoid
        and max(one.prefill_price, one.decode_price) <= max_price
        and 0 <= one.start < one.end <= layers
    ]
    # The best way to each joint: its rank (stages, price, keys), and the offers it takes.
    best: dict[int, tuple[tuple[int, int, tuple[bytes, ...]], tuple[LayerOffer, ...]]] = {0: ((0, 0, ()), ())}
    for at in range(layers):
        if at not in best:
            continue
        (stages, price, keys), path = best[at]
        for offer in usable:
            if offer.start != at:
                continue
            total = price + (offer.end - offer.start) * (offer.prefill_price + offer.decode_price)
            rank = (stages + 1, total, (*keys, offer.worker))
            if offer.end not in best or rank < best[offer.end][0]:
                best[offer.end] = (rank, (*path, offer))
    if layers not in best or len(best[layers][1]) > STAGES_MAX:
        raise NoPathError(_find_missing(usable, layers))
    return best[layers][1]


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
