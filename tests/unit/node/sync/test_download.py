"""The download's scheduler alone: whom it asks what, and that bad peers cost themselves and nothing else."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.store.snapshot_format import hash_chunk
from node.sync.offers import choose_candidate
from node.transfer.download import FAILURES_MAX, PAUSE_MS, REQUESTS_PER_PEER, STALL_MS, Download, Fetch
from proto_specs.types.snapshot_wire import SnapshotOffer

CHUNKS = [bytes([index]) * 10 for index in range(9)]
HASHES = [hash_chunk(one) for one in CHUNKS]


def offer(height: int, name: int = 0) -> SnapshotOffer:
    return SnapshotOffer(height, bytes([height]) * 32, bytes([height, name]) * 16, 3)


def test_what_two_offer_comes_before_what_one_does_and_then_the_newest() -> None:
    found = choose_candidate({"a": [offer(5)], "b": [offer(5), offer(4)], "c": [offer(9)], "d": [offer(4)]})
    assert found is not None
    assert (found.offer, found.peers) == (offer(5), ("a", "b"))
    alone = choose_candidate({"a": [offer(5), offer(7)]})
    assert alone is not None
    assert alone.offer == offer(7)
    assert choose_candidate({"a": []}) is None


def test_two_manifests_of_one_height_are_two_candidates_and_a_refused_one_is_none() -> None:
    offers = {"a": [offer(5, 1)], "b": [offer(5, 2)], "c": [offer(5, 2)]}
    found = choose_candidate(offers)
    assert found is not None
    assert found.peers == ("b", "c")
    other = choose_candidate(offers, refused={offer(5, 2).manifest_hash})
    assert other is not None
    assert other.peers == ("a",)


def test_what_was_begun_goes_on_while_it_is_offered() -> None:
    offers = {"a": [offer(9), offer(5)], "b": [offer(9)]}
    found = choose_candidate(offers, begun=offer(5).manifest_hash)
    assert found is not None
    assert found.offer == offer(5)


def test_ever_new_nonsense_does_not_come_first_for_ever() -> None:
    first = choose_candidate({"liar": [offer(200, 1)], "sybil": [offer(200, 1)], "good": [offer(5)]})
    assert first is not None
    strikes = dict.fromkeys(first.peers, 1)
    assert "good" not in strikes
    again = {"liar": [offer(200, 2)], "sybil": [offer(200, 2)], "good": [offer(5)]}
    second = choose_candidate(again, strikes=strikes)
    assert second is not None
    assert second.peers == ("good",)


def test_a_peer_is_asked_for_two_chunks_at_once_and_no_chunk_of_two_peers() -> None:
    download = Download(HASHES, (), ["a", "b"], hash_chunk)
    made = download.assign(0)
    assert len(made) == 2 * REQUESTS_PER_PEER
    assert sorted(one.index for one in made) == [0, 1, 2, 3]
    assert {one.peer for one in made} == {"a", "b"}
    assert download.assign(0) == []


def test_what_is_there_is_not_asked_for_again() -> None:
    download = Download(HASHES, range(8), ["a"], hash_chunk)
    (fetch,) = download.assign(0)
    assert fetch.index == 8
    assert download.take_chunk(fetch, CHUNKS[8])
    assert download.is_done


def test_a_wrong_chunk_ends_its_peer_and_is_asked_of_another() -> None:
    download = Download(HASHES, range(1, 9), ["a", "b"], hash_chunk)
    (fetch,) = download.assign(0)
    assert not download.take_chunk(fetch, b"wrong")
    assert download.is_dropped(fetch.peer)
    download.add_peer(fetch.peer)
    (again,) = download.assign(0)
    assert again.peer != fetch.peer
    assert not download.take_chunk(again, None)
    assert download.is_stuck


def test_a_chunk_that_does_not_come_is_asked_of_a_second_peer_and_of_no_third() -> None:
    download = Download(HASHES, range(1, 9), ["a", "b", "c"], hash_chunk)
    (first,) = download.assign(0)
    assert download.compute_wake_ms(0) == STALL_MS
    assert download.assign(STALL_MS - 1) == []
    (second,) = download.assign(STALL_MS)
    assert second.peer != first.peer
    assert download.assign(3 * STALL_MS) == []
    assert download.take_chunk(second, CHUNKS[0])
    assert not download.take_chunk(first, CHUNKS[0]), "it has come already"
    assert not download.is_dropped(first.peer)


def test_a_peer_that_fails_is_paused_and_then_dropped() -> None:
    download = Download(HASHES, range(1, 9), ["a"], hash_chunk)
    now_ms = 0
    for failure in range(1, FAILURES_MAX + 1):
        (fetch,) = download.assign(now_ms)
        download.take_failure(fetch, now_ms)
        assert download.assign(now_ms + PAUSE_MS * failure - 1) == []
        now_ms += PAUSE_MS * failure
    assert download.is_stuck


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(["wrong", "mute", "flaky", "empty", "slow"]), max_size=5))
def test_one_good_peer_among_any_bad_ones_is_enough(seed: int, bad: list[str]) -> None:
    """On virtual time; a mute peer's requests end after 20 s, as the shell's do."""
    rng = random.Random(seed)
    kinds = {f"{number}-{kind}": kind for number, kind in enumerate(bad)} | {"good": "good"}
    names = list(kinds)
    rng.shuffle(names)
    download = Download(HASHES, (), names, hash_chunk)
    now_ms, under_way, kept = 0, list[tuple[int, Fetch]](), dict[int, bytes]()
    while not download.is_done:
        assert not download.is_stuck
        for fetch in download.assign(now_ms):
            takes_ms = {"good": 100, "mute": 20_000, "slow": 4_000}.get(kinds[fetch.peer], 50)
            under_way.append((now_ms + takes_ms, fetch))
        at = min([download.compute_wake_ms(now_ms), *(done for done, _ in under_way)])
        assert at > now_ms or under_way
        now_ms = max(now_ms, at)
        for one in [one for one in under_way if one[0] <= now_ms]:
            under_way.remove(one)
            _, fetch = one
            match kinds[fetch.peer]:
                case "mute":
                    download.take_failure(fetch, now_ms)
                case "flaky" if rng.random() < 0.5:
                    download.take_failure(fetch, now_ms)
                case "wrong" | "empty" as kind:
                    assert not download.take_chunk(fetch, b"x" if kind == "wrong" else None)
                case _:
                    if download.take_chunk(fetch, CHUNKS[fetch.index]):
                        assert fetch.index not in kept
                        kept[fetch.index] = CHUNKS[fetch.index]
    assert kept == dict(enumerate(CHUNKS))
    assert not download.is_dropped("good")
    assert now_ms <= 60_000


@pytest.mark.parametrize("kind", ["wrong", "empty"])
def test_only_bad_peers_end_it(kind: str) -> None:
    download = Download(HASHES, (), ["a", "b"], hash_chunk)
    while fetches := download.assign(0):
        for fetch in fetches:
            download.take_chunk(fetch, b"x" if kind == "wrong" else None)
    assert download.is_stuck
    assert download.missing_count == len(HASHES)
