"""What makes a validator set well-formed."""

from __future__ import annotations

import pytest

from consensus.bft.errors import ValidatorSetError
from consensus.bft.validators import PowerTable, validate_validator_set
from proto_specs.types.chain import Validator, ValidatorSet
from tests.unit.consensus.bft.builders import make_key, make_validators

ONE, TWO = make_validators(5, 7).members


def test_good_sets() -> None:
    validate_validator_set(make_validators(1))
    validate_validator_set(make_validators(5, 7, 2**64 - 1))


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        pytest.param((), "empty", id="empty"),
        pytest.param((TWO, ONE), "does not rise", id="out of order"),
        pytest.param((ONE, ONE), "does not rise", id="one twice"),
        pytest.param((ONE, Validator(TWO.key, bytes(32), 0)), "no power", id="no power"),
    ],
)
def test_bad_sets(members: tuple[Validator, ...], reason: str) -> None:
    with pytest.raises(ValidatorSetError, match=reason):
        validate_validator_set(ValidatorSet(members))


def test_power_table() -> None:
    table = PowerTable(make_validators(5, 7))
    assert (table.total, table.get_power(make_key(2)), table.get_power(make_key(3))) == (12, 7, 0)
    assert make_key(1) in table
    assert make_key(3) not in table
