"""Rotation: golden sequences, proportional picks, and what a change of the set does to priorities."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import proto_specs
from consensus.bft.proposer import ProposerRotation
from proto_specs.errors import DecodeError
from proto_specs.types.chain import Validator, ValidatorSet
from tests.unit.consensus.bft.builders import make_key, make_validators

VECTORS = json.loads((Path(proto_specs.__file__).parent / "vectors" / "proposer_rotation.json").read_text())


def read_set(members: list[dict[str, Any]]) -> ValidatorSet:
    return ValidatorSet(tuple(Validator(bytes.fromhex(one["key"]), bytes(32), one["power"]) for one in members))


@pytest.mark.parametrize("vector", [pytest.param(one, id=one["name"]) for one in VECTORS["chains"]])
def test_golden_chain(vector: dict[str, Any]) -> None:
    rotation: ProposerRotation | None = None
    for era in vector["eras"]:
        validators = read_set(era["validators"])
        rotation = ProposerRotation.start(validators) if rotation is None else rotation.with_validators(validators)
        for height in era["heights"]:
            assert list(rotation.priorities) == height["priorities"]
            picked = [rotation.get_proposer(round_) for round_ in range(len(height["proposers"]))]
            assert [
                validators.members.index(next(m for m in validators.members if m.key == key)) for key in picked
            ] == (height["proposers"])
            rotation = rotation.advance()


def test_a_round_looks_as_far_ahead_as_a_height() -> None:
    rotation = ProposerRotation.start(make_validators(5, 3, 9))
    assert [rotation.get_proposer(at) for at in range(40)] == [rotation.advance(at).get_proposer() for at in range(40)]


@pytest.mark.parametrize("powers", [(1,), (1, 1), (3, 1), (1, 2, 3), (5, 5, 1, 9), (100, 1), (7, 7, 7, 7, 7)])
def test_a_cycle_picks_each_by_its_power_and_comes_back(powers: tuple[int, ...]) -> None:
    rotation = ProposerRotation.start(make_validators(*powers))
    picks = Counter(rotation.get_proposer(at) for at in range(sum(powers)))
    assert [picks[make_key(at + 1)] for at in range(len(powers))] == list(powers)
    assert rotation.advance(sum(powers)) == rotation


def test_ties_go_to_the_smaller_key() -> None:
    rotation = ProposerRotation.start(make_validators(1, 1, 1))
    assert [rotation.get_proposer(at) for at in range(4)] == [make_key(1), make_key(2), make_key(3), make_key(1)]


def test_a_joiner_starts_at_the_back() -> None:
    before = ProposerRotation.start(make_validators(10, 10)).advance(3)
    after = before.with_validators(make_validators(10, 10, 1000))
    assert min(after.priorities) == after.priorities[2]
    assert after.get_proposer() != make_key(3)


def test_leaving_and_coming_back_does_not_jump_the_queue() -> None:
    """Unbonding and bonding again must not reset a priority that has just been paid for."""
    full, without = make_validators(4, 4, 4), make_validators(4, 4)
    rotation = ProposerRotation.start(full).advance(1)
    again = rotation.with_validators(without).with_validators(full)
    assert again.priorities[2] == min(again.priorities)


def test_spread_is_capped_rounding_down() -> None:
    skewed = ProposerRotation(make_validators(1, 1, 1), (100, -51, 7))
    assert skewed.with_validators(make_validators(1, 1, 1)).priorities == (3, -2, 0)


def test_mean_is_taken_off_rounding_down() -> None:
    off = ProposerRotation(make_validators(5, 5, 5), (-1, -1, 0))
    assert off.with_validators(make_validators(5, 5, 5)).priorities == (0, 0, 1)


def test_priorities_round_trip() -> None:
    rotation = ProposerRotation.start(make_validators(2**64 - 1, 1, 2**63)).advance(2)
    data = rotation.encode_priorities()
    assert len(data) == 16 * 3
    assert ProposerRotation.decode(rotation.validators, data) == rotation


@pytest.mark.parametrize("length", [0, 15, 16, 31, 33, 48])
def test_priorities_of_another_length_are_rejected(length: int) -> None:
    with pytest.raises(DecodeError, match="2 validators"):
        ProposerRotation.decode(make_validators(1, 1), bytes(length))
