"""The checks that watch a simulation find what they are for: each is shown one fault, and one thing that is none."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

from node.sim.consensus.checks import Checks
from node.sim.consensus.disk import SimDisk
from proto_specs.types.chain import ProposalHead, Vote
from proto_specs.types.gossip import ExchangeOffer, ProposalPart

KEY = b"\1" * 32
FIRST, SECOND = b"\2" * 64, b"\3" * 64


def make_node(*on_disk: bytes) -> Any:
    disk = SimDisk(random.Random(0), history=" ".join(one.hex() for one in on_disk))
    return SimpleNamespace(name="honest", key=SimpleNamespace(public_key=KEY), disk=disk)


def make_vote(signature: bytes, validator: bytes = KEY) -> Vote:
    return Vote(1, 5, 0, b"\4" * 32, validator, signature)


def make_part(signature: bytes) -> ProposalPart:
    return ProposalPart(ProposalHead(5, 0, None, b"\4" * 32, b"\5" * 32, 1, KEY, signature), 0, b"", ())


def test_a_signature_that_is_not_on_disk_is_found_wherever_it_leaves() -> None:
    for message in (make_vote(FIRST), make_part(FIRST), ExchangeOffer(4, (), (make_vote(FIRST),), None)):
        checks = Checks()
        checks.note_left(make_node(SECOND), message)
        assert len(checks.violations) == 1
        assert "before it was on disk" in checks.violations[0]
        checks = Checks()
        checks.note_left(make_node(FIRST), message)
        assert checks.violations == []


def test_two_signatures_for_one_slot_are_found_and_one_said_twice_is_not() -> None:
    for first, second in ((make_vote(FIRST), make_vote(SECOND)), (make_part(FIRST), make_part(SECOND))):
        checks, node = Checks(), make_node(FIRST, SECOND)
        checks.note_left(node, first)
        checks.note_left(node, first)
        assert checks.violations == []
        checks.note_left(node, second)
        assert len(checks.violations) == 1
        assert "signed twice" in checks.violations[0]


def test_what_others_signed_is_passed_on_freely() -> None:
    checks, node = Checks(), make_node()
    other = b"\6" * 32
    checks.note_left(node, ExchangeOffer(4, (), (make_vote(FIRST, other), make_vote(SECOND, other)), None))
    assert checks.violations == []
