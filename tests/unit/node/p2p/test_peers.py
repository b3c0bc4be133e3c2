"""The address book: who is dialled when, who is left alone, and what a new start remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.p2p.errors import AddressInvalid
from node.p2p.identity import compute_peer_id
from node.p2p.peers import BACKOFF_S_MAX, BAN_S, BAN_SCORE, KNOWN_MAX, OUTBOUND_WANTED, PeerBook
from node.p2p.rate import RateLimit


def make_id(number: int) -> str:
    return compute_peer_id(number.to_bytes(32, "big"))


def make_address(number: int) -> str:
    return f"/ip4/10.0.0.1/tcp/{4_000 + number}/p2p/{make_id(number)}"


@pytest.fixture
def book(tmp_path: Path) -> PeerBook:
    return PeerBook(tmp_path / "peers.json", make_id(0))


def test_named_peers_are_dialled_always_and_others_while_there_is_room(book: PeerBook) -> None:
    for number in range(1, 20):
        book.add(make_address(number), is_named=number <= 3)
    assert len(book.choose(frozenset(), 0.0)) == OUTBOUND_WANTED
    connected = frozenset(make_id(number) for number in range(4, 4 + OUTBOUND_WANTED))
    assert book.choose(connected, 0.0) == [make_id(number) for number in (1, 2, 3)]


def test_a_failure_is_waited_out_longer_each_time_and_forgotten_by_a_success(book: PeerBook) -> None:
    book.add(make_address(1), is_named=True)
    peer, now_s, pauses = make_id(1), 0.0, []
    for _ in range(12):
        book.note_failure(peer, now_s)
        assert book.choose(frozenset(), now_s) == []
        pauses.append(book.known[peer].retry_at_s - now_s)
        now_s = book.known[peer].retry_at_s
        assert book.choose(frozenset(), now_s) == [peer]
    assert pauses[0] <= 1.0
    assert BACKOFF_S_MAX / 2 <= pauses[-1] <= BACKOFF_S_MAX
    book.note_success(peer)
    assert book.known[peer].failures == 0


def test_one_that_nobody_named_is_given_up(book: PeerBook) -> None:
    book.add(make_address(1))
    for _ in range(10):
        book.note_failure(make_id(1), 0.0)
    assert not book.known


def test_offences_ban_for_a_while_and_are_forgiven(book: PeerBook) -> None:
    peer = make_id(1)
    assert [book.blame(peer, 0.0) for _ in range(BAN_SCORE)] == [False] * (BAN_SCORE - 1) + [True]
    assert book.is_banned(peer, BAN_S - 1)
    assert not book.is_banned(peer, BAN_S + 1)
    other = make_id(2)
    assert not any(book.blame(other, 20.0 * number) for number in range(100)), "one every twenty seconds is forgiven"
    book.add(make_address(1), is_named=True)
    assert book.choose(frozenset(), 0.0) == []


def test_what_was_reached_is_remembered(book: PeerBook) -> None:
    for number in (1, 2):
        book.add(make_address(number))
    book.note_success(make_id(1))
    book.save()
    again = PeerBook(book.path, make_id(0))
    again.load()
    assert list(again.known) == [make_id(1)]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"addresses": 1}', '{"addresses": [1, "/ip4/1.2.3.4", "nonsense"]}'])
def test_a_book_that_is_none_is_an_empty_one(book: PeerBook, text: str) -> None:
    assert book.path is not None
    book.path.write_text(text)
    book.load()
    assert not book.known


def test_memory_is_bounded_and_we_do_not_know_ourselves(book: PeerBook) -> None:
    book.add(make_address(0))
    assert not book.known
    for number in range(1, 30):
        book.add(f"/ip4/10.0.0.{number}/tcp/4000/p2p/{make_id(1)}")
    assert len(book.known[make_id(1)].addresses) == 4
    assert KNOWN_MAX >= 100
    with pytest.raises(AddressInvalid):
        book.add("nonsense", is_named=True)


def test_a_bucket_lends_and_is_paid_back() -> None:
    rate = RateLimit(10, 20)
    assert rate.take("a", 20, 0.0) == 0.0
    assert rate.take("a", 10, 0.0) == 1.0
    assert rate.take("b", 20, 0.0) == 0.0
    assert rate.take("a", 0, 1.0) == 0.0
