"""Counting votes: exact thresholds, each validator once, and what becomes of a second vote."""

from __future__ import annotations

import pytest

from consensus.bft.tally import HeightTally, VoteTally
from consensus.bft.validators import PowerTable
from proto_specs.types.chain import Vote, VoteKind
from tests.unit.consensus.bft.builders import make_key, make_validators, make_vote

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


def prevote(sender: int, block_hash: bytes | None, round_: int = 0) -> Vote:
    return make_vote(VoteKind.PREVOTE, 1, round_, block_hash, make_key(sender + 1))


def precommit(sender: int, block_hash: bytes | None, round_: int = 0) -> Vote:
    return make_vote(VoteKind.PRECOMMIT, 1, round_, block_hash, make_key(sender + 1))


def make_tally(*powers: int) -> VoteTally:
    return VoteTally(PowerTable(make_validators(*powers)))


@pytest.mark.parametrize(
    ("powers", "senders", "is_quorum", "is_third"),
    [
        pytest.param((1, 1, 1), 2, False, True, id="3p = 2P"),
        pytest.param((1, 1, 1), 3, True, True, id="all of three"),
        pytest.param((1, 1, 1), 1, False, False, id="3p = P"),
        pytest.param((1, 1, 1, 1), 3, True, True, id="three of four"),
        pytest.param((1, 1, 1, 1), 2, False, True, id="two of four"),
        pytest.param((200, 101), 1, False, True, id="one below two thirds"),
        pytest.param((201, 100), 1, True, True, id="one above two thirds"),
        pytest.param((100, 201), 1, False, False, id="one below a third"),
        pytest.param((101, 200), 1, False, True, id="one above a third"),
        pytest.param((2**64 - 1, 2**64 - 1, 2**64 - 1), 2, False, True, id="3p = 2P, largest powers"),
    ],
)
def test_thresholds_are_strict(powers: tuple[int, ...], senders: int, is_quorum: bool, is_third: bool) -> None:
    table = PowerTable(make_validators(*powers))
    power = sum(powers[:senders])
    assert (table.is_quorum(power), table.is_third(power)) == (is_quorum, is_third)
    tally = HeightTally(table)
    for sender in range(senders):
        tally.add(prevote(sender, A, round_=4))
        tally.add(prevote(sender, A, round_=4))
    assert tally.get_prevotes(4).has_quorum(A) == is_quorum
    assert tally.get_prevotes(4).has_any_quorum() == is_quorum
    assert (tally.polkas == {4: A}) == is_quorum
    assert (tally.third_round_max == 4) == is_third


def test_quorum_of_any_is_not_a_quorum_of_one() -> None:
    tally = make_tally(1, 1, 1, 1)
    for sender, block_hash in enumerate((A, B, None)):
        tally.add(prevote(sender, block_hash))
    assert tally.has_any_quorum()
    assert not any(tally.has_quorum(one) for one in (A, B, None))


def test_kinds_and_rounds_are_apart() -> None:
    tally = HeightTally(PowerTable(make_validators(1, 1, 1, 1)))
    tally.add(prevote(0, A))
    tally.add(precommit(1, A))
    tally.add(prevote(2, A, round_=1))
    tally.add(precommit(3, A, round_=1))
    assert [tally.get_prevotes(at).get_power(A) for at in (0, 1)] == [1, 1]
    assert [tally.get_precommits(at).get_power(A) for at in (0, 1)] == [1, 1]
    assert (tally.polkas, tally.decisions) == ({}, {})


def test_nil_quorum_is_neither_polka_nor_decision() -> None:
    tally = HeightTally(PowerTable(make_validators(1)))
    tally.add(prevote(0, None))
    tally.add(precommit(0, None))
    assert (tally.polkas, tally.decisions) == ({}, {})


def test_senders_of_both_kinds_count_together_and_once() -> None:
    tally = HeightTally(PowerTable(make_validators(1, 1, 1, 1)))
    tally.add(prevote(0, A, round_=7))
    tally.add(precommit(0, A, round_=7))
    tally.add(precommit(0, B, round_=7))
    assert tally.third_round_max == -1
    tally.add(precommit(1, None, round_=7))
    assert tally.third_round_max == 7


def test_a_sender_whose_precommit_comes_first_counts_once_too() -> None:
    tally = HeightTally(PowerTable(make_validators(1, 1, 1, 1)))
    for vote in (precommit(0, A, round_=7), precommit(0, A, round_=7), prevote(0, A, round_=7)):
        tally.add(vote)
    assert tally.third_round_max == -1


def test_second_vote_is_evidence_once_in_canonical_order() -> None:
    tally = make_tally(1, 1, 1, 1)
    assert tally.add(prevote(0, B)) is None
    assert tally.add(prevote(0, B)) is None
    evidence = tally.add(prevote(0, A))
    assert evidence is not None
    assert (evidence.first, evidence.second) == (prevote(0, A), prevote(0, B))
    assert tally.add(prevote(0, None)) is None


def test_second_vote_alone_counts_for_nothing() -> None:
    tally = make_tally(1, 1, 1, 1)
    for block_hash in (A, B, C, None):
        tally.add(prevote(0, block_hash))
    assert [tally.get_power(one) for one in (A, B, C, None)] == [1, 0, 0, 0]
    assert tally.get_votes() == (prevote(0, A),)


@pytest.mark.parametrize("is_early", [True, False], ids=["before the others", "after the others"])
def test_second_vote_counts_for_what_a_third_voted_for(is_early: bool) -> None:
    tally = make_tally(1, 1, 1, 1)
    double = [prevote(0, None), prevote(0, A)]
    others = [prevote(1, A), prevote(2, A)]
    for vote in double + others if is_early else others + double:
        tally.add(vote)
    assert tally.has_quorum(A)
    assert [one.validator for one in tally.get_signatures(A)] == [make_key(1), make_key(2), make_key(3)]
    assert set(tally.get_votes()) == {*double, *others}
    for vote in double:
        tally.add(vote)
    assert (tally.get_power(A), tally.get_power(None)) == (3, 1)


def test_exactly_a_third_does_not_make_a_second_vote_count() -> None:
    tally = make_tally(1, 1, 1)
    for vote in (prevote(0, None), prevote(1, A), prevote(0, A)):
        tally.add(vote)
    assert tally.get_power(A) == 1


def test_double_voters_do_not_vouch_for_each_other() -> None:
    """Two conflicting votes for a block nobody named first must not make each other count."""
    tally = make_tally(1, 1, 1, 1)
    for sender in (0, 1):
        tally.add(prevote(sender, A))
        tally.add(prevote(sender, B))
    assert tally.get_power(B) == 0
    tally.add(prevote(2, B))
    assert tally.get_power(B) == 1
    assert not tally.has_quorum(B)


def test_one_second_vote_waits_and_a_repeated_one_is_counted_when_due() -> None:
    tally = make_tally(1, 1, 1, 1)
    for block_hash in (A, B, C):
        tally.add(prevote(0, block_hash))
    for sender in (1, 2):
        tally.add(prevote(sender, C))
    assert tally.get_power(C) == 2
    tally.add(prevote(0, C))
    assert tally.get_power(C) == 3
