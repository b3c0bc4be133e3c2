"""Paths: fewest stages, lowest price, best rank; and what is said when there is none."""

from __future__ import annotations

import pytest

from inference.routing import LayerOffer, NoPathError, choose_path


def offer(name: str, start: int, end: int, price: int = 5, rank: int = 0) -> LayerOffer:
    return LayerOffer(name.encode(), start, end, price, price, rank)


def choose(*offers: LayerOffer, max_price: int = 10, avoid: tuple[bytes, ...] = ()) -> str:
    return "".join(one.worker.decode() for one in choose_path(offers, 10, max_price, avoid))


def test_stages_then_price_then_rank_then_key() -> None:
    halves = (offer("a", 0, 5, 1), offer("b", 5, 10, 1))
    assert choose(*halves, offer("c", 0, 10, 9)) == "c"
    assert choose(*halves, offer("d", 5, 10, 2)) == "ab"
    assert choose(offer("a", 0, 10, rank=3), offer("b", 0, 10, rank=1)) == "b"
    assert choose(offer("b", 0, 10), offer("a", 0, 10)) == "a"
    assert choose(offer("a", 0, 10, 4, rank=9), offer("b", 0, 10, 5)) == "a", "a price outweighs a rank"
    assert choose(*halves, offer("d", 5, 10, 2), avoid=(b"b",)) == "ad"


def test_nobody_serves() -> None:
    with pytest.raises(NoPathError, match="nobody serves layers 5-9; start") as failed:
        choose(offer("a", 0, 5))
    assert failed.value.missing == ((5, 10),)
    assert failed.value.cheapest is None


def test_served_but_above_the_price() -> None:
    dear = (offer("a", 0, 5, 8), offer("b", 5, 10, 20), offer("c", 5, 10, 15))
    with pytest.raises(NoPathError, match="layers 5-9 are served, but only above your price of 9 nmyl") as failed:
        choose(*dear, max_price=9)
    assert failed.value.cheapest == 15
    assert "the cheapest is 15 nmyl" in str(failed.value)


def test_ranges_that_do_not_join() -> None:
    with pytest.raises(NoPathError, match="do not join up"):
        choose(offer("a", 0, 6), offer("b", 5, 10))
    with pytest.raises(NoPathError, match="the model is served, but only above") as failed:
        choose(offer("a", 0, 6), offer("b", 5, 10), offer("c", 6, 10, 40))
    assert failed.value.cheapest == 40
