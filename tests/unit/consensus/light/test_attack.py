"""Evidence of a fork: one encoding, its kind, and the double votes in it that the chain itself punishes."""

from __future__ import annotations

import dataclasses

from consensus.bft.evidence import validate_duplicate_vote
from consensus.light.attack import AttackKind, LightAttack, classify_attack, list_double_votes, make_attack
from consensus.light.errors import ForkDetected
from proto_specs.codec import decode, encode
from proto_specs.types.gossip import LightBlock
from tests.unit.consensus.light.chain import GENESIS, Chain, forge, list_keys, make_set

FOUR = make_set({1: 10, 2: 10, 3: 10, 4: 10})
CHAIN = Chain([FOUR] * 9)
BLOCK = CHAIN.blocks[8]


def attack_with(other: LightBlock) -> LightAttack:
    found = make_attack(1, bytes(32), BLOCK, other)
    assert found == make_attack(1, bytes(32), other, BLOCK)
    assert decode(LightAttack, encode(found)) == found
    return found


def test_equivocation_convicts_who_signed_both() -> None:
    signing = list_keys(FOUR)[:3]
    found = attack_with(forge(9, FOUR, signing))
    assert classify_attack(found) is AttackKind.EQUIVOCATION
    votes = list_double_votes(found)
    assert [one.first.validator for one in votes] == signing
    for one in votes:
        validate_duplicate_vote(one, GENESIS)


def test_amnesia_convicts_nobody_by_its_votes() -> None:
    found = attack_with(forge(9, FOUR, round_=1))
    assert classify_attack(found) is AttackKind.AMNESIA
    assert list_double_votes(found) == ()


def test_a_set_nobody_elected_is_lunatic_and_its_double_votes_count() -> None:
    found = attack_with(forge(9, make_set({1: 10, 2: 10, 30: 1})))
    assert classify_attack(found) is AttackKind.LUNATIC
    assert [one.first.validator for one in list_double_votes(found)] == list_keys(make_set({1: 1, 2: 1}))


def test_the_error_carries_the_attack_and_says_what_to_do() -> None:
    found = attack_with(dataclasses.replace(forge(9, FOUR)))
    error = ForkDetected(found)
    assert error.attack == found
    assert "trust neither" in str(error)
