"""Paths: the fastest within a tenth that is cheapest, or the cheapest; and what is said when there is none."""

from __future__ import annotations

import pytest

from inference.routing import LayerOffer, NoPathError, Prefer, choose_path


def offer(name: str, start: int, end: int, price: int = 5, decode_us: int = 100, round_trip_us: int = 0) -> LayerOffer:
    return LayerOffer(name.encode(), start, end, price, price, 0, 0, decode_us, round_trip_us)


def choose(
    *offers: LayerOffer,
    max_price: int = 10,
    avoid: tuple[bytes, ...] = (),
    prefer: Prefer = Prefer.FAST,
    hops: dict[tuple[bytes, bytes], int] | None = None,
) -> str:
    path = choose_path(
        offers, 10, prompt_tokens=5, new_tokens=20, max_price=max_price, prefer=prefer, avoid=avoid, hops=hops or {}
    )
    return "".join(one.worker.decode() for one in path)


def test_time_within_a_tenth_then_price_then_stages_then_key() -> None:
    whole, halves = offer("a", 0, 10, 9), (offer("b", 0, 5, 1, 50), offer("c", 5, 10, 1, 50))
    assert choose(whole, *halves) == "bc", "as fast, and cheaper"
    assert choose(whole, halves[0], offer("c", 5, 10, 1, 60)) == "bc", "a tenth slower, and cheaper"
    assert choose(whole, halves[0], offer("c", 5, 10, 1, 61)) == "a", "slower than that"
    assert choose(offer("a", 0, 10, 1), *halves) == "a", "as fast and as cheap, in one stage"
    assert choose(offer("b", 0, 10), offer("a", 0, 10)) == "a"
    assert choose(whole, *halves, avoid=(b"b",)) == "a"


def test_cheap_means_the_price_first_and_the_time_next() -> None:
    assert choose(offer("a", 0, 10, 4, 900), offer("b", 0, 10, 5), prefer=Prefer.CHEAP) == "a"
    assert choose(offer("a", 0, 10, 5, 900), offer("b", 0, 10, 5), prefer=Prefer.CHEAP) == "b"


def test_hops_cost_each_token_a_round_trip_of_each_stage_unless_they_were_measured() -> None:
    whole, halves = offer("a", 0, 10, 1, 500), (offer("b", 0, 5, 1, 50, 300), offer("c", 5, 10, 1, 50, 300))
    assert choose(whole, *halves) == "a", "600 us on the way"
    assert choose(whole, *halves, hops={(b"b", b"c"): 20}) == "bc", "320 us on the way"
    assert choose(whole, *halves, hops={(b"c", b"a"): 20}) == "a"
    assert choose(offer("a", 0, 10, 1, 100, 9_000), offer("b", 0, 10, 1, 300, 10)) == "b", "and to the first and back"


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
