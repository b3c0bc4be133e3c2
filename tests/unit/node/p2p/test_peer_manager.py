"""The address book: who is dialled when, who is left alone, and what a new start remembers."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.machine.rate import RateLimit
from node.p2p.errors import AddressInvalid
from node.p2p.identity import compute_peer_id
from node.p2p.peer_book import (
    BACKOFF_S_MAX,
    BAN_S,
    BAN_SCORE,
    KNOWN_MAX,
    NAMED_BACKOFF_S_MAX,
    OUTBOUND_WANTED,
    PeerBook,
)


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
    assert len(book.choose(frozenset(), 0, 0.0)) == OUTBOUND_WANTED
    connected = frozenset(make_id(number) for number in range(4, 4 + OUTBOUND_WANTED))
    assert len(book.choose(connected, 0, 0.0)) == OUTBOUND_WANTED, "who came by itself does not choose our peers"
    assert book.choose(connected, OUTBOUND_WANTED, 0.0) == [make_id(number) for number in (1, 2, 3)]


@pytest.mark.parametrize(("is_named", "pause_s_max"), [(True, NAMED_BACKOFF_S_MAX), (False, BACKOFF_S_MAX)])
def test_a_failure_is_waited_out_longer_each_time_and_forgotten_by_a_success(
    book: PeerBook, is_named: bool, pause_s_max: float
) -> None:
    book.add(make_address(1), is_named=is_named)
    peer, now_s, pauses = make_id(1), 0.0, []
    for _ in range(12):
        book.note_failure(peer, now_s, is_online=False)
        assert book.choose(frozenset(), 0, now_s) == []
        pauses.append(book.known[peer].retry_at_s - now_s)
        now_s = book.known[peer].retry_at_s
        assert book.choose(frozenset(), 0, now_s) == [peer]
    assert pauses[0] <= 1.0
    assert pause_s_max / 2 <= pauses[-1] <= pause_s_max
    book.note_success(peer, is_dialled=True)
    assert book.known[peer].failures == 0


def test_one_that_nobody_named_is_given_up(book: PeerBook) -> None:
    book.add(make_address(1))
    for _ in range(20):
        book.note_failure(make_id(1), 0.0, is_online=False)
    assert book.known, "it is we who are cut off"
    book.note_failure(make_id(1), 0.0, is_online=True)
    assert not book.known


def test_offences_ban_for_a_while_and_are_forgiven(book: PeerBook) -> None:
    peer = make_id(1)
    assert [book.blame(peer, 0.0) for _ in range(BAN_SCORE)] == [False] * (BAN_SCORE - 1) + [True]
    assert book.is_banned(peer, BAN_S - 1)
    assert not book.is_banned(peer, BAN_S + 1)
    other = make_id(2)
    assert not any(book.blame(other, 20.0 * number) for number in range(100)), "one every twenty seconds is forgiven"
    book.add(make_address(1), is_named=True)
    assert book.choose(frozenset(), 0, 0.0) == []


def test_what_was_reached_is_remembered(book: PeerBook) -> None:
    for number in (1, 2):
        book.add(make_address(number))
    book.note_success(make_id(1), is_dialled=True)
    book.note_success(make_id(2), is_dialled=False)
    assert book.path is not None
    assert book.is_changed
    book.path.write_bytes(book.encode())
    again = PeerBook(book.path, make_id(0))
    again.load()
    assert list(again.known) == [make_id(1)]
    assert again.encode() == book.encode(), "a start that reaches nobody forgets nobody"


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
    with pytest.raises(AddressInvalid):
        book.add("nonsense", is_named=True)


def test_a_bucket_lends_and_is_paid_back() -> None:
    rate = RateLimit(10, 20)
    assert rate.take("a", 20, 0.0) == 0.0
    assert rate.take("a", 10, 0.0) == 1.0
    assert rate.take("b", 20, 0.0) == 0.0
    assert rate.take("a", 0, 1.0) == 0.0


def test_what_would_have_to_wait_too_long_is_not_taken() -> None:
    rate = RateLimit(10, 2)
    answers = [rate.take_within("a", 1, 0.0, 0.25) for _ in range(6)]
    assert answers == [0.0, 0.0, 0.1, 0.2, None, None]
    assert rate.take_within("b", 1, 0.0, 0.25) == 0.0
    assert rate.take_within("a", 1, 0.2, 0.25) == pytest.approx(0.1)


def test_a_flood_of_addresses_drives_out_nobody_who_was_reached(book: PeerBook) -> None:
    book.add(make_address(1))
    book.note_success(make_id(1), is_dialled=True)
    book.add(make_address(2), is_named=True)
    for number in range(3, KNOWN_MAX + 200):
        book.add(f"/ip4/10.0.0.1/tcp/{number}/p2p/{make_id(number)}")
    assert len(book.known) == KNOWN_MAX
    assert {make_id(1), make_id(2)} <= book.known.keys()
    assert book.choose(frozenset(), 0, 0.0)[:2] == [make_id(2), make_id(1)], "named first, reached next"
    for number in range(2 * KNOWN_MAX):
        book.blame(make_id(number), 0.0)
    assert len(book.scores) <= KNOWN_MAX
