"""Chains populated for the worst case: many validators, full queues, long paths. `ASSUMED` holds their assumptions."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from functools import cache
from typing import Any

from benchmarks.weights.rig import BYSTANDER, Rig
from consensus.runtime.staking.book import Book
from consensus.state.overlay import Overlay
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from genesis.spec import ChainSpec
from proto_specs.hashing import Tag
from proto_specs.types import calls
from proto_specs.types.common import NMYL_PER_MYL

VALIDATORS = 100
"""Elected validators of the measured chains, all of which verify the measured models."""

SEATS = 5
"""Seats of a challenge's committee, with those of its second round; a settlement pays for them in advance."""

OUTFLOW_EPOCHS = 20
"""Epochs in an unbonding period, from each of which stake of a validator is liable elsewhere."""

ASSUMED = {"validators": VALIDATORS, "committee_seats": SEATS, "unbonding_epochs": OUTFLOW_EPOCHS}
"""Numbers that no call states, so that weights assume them. A chain that exceeds them lowers `block_weight_max`."""

MYL = NMYL_PER_MYL
EPOCH_BLOCKS = 10
_PAYERS = 120


@cache
def get_validator(number: int) -> DevIdentity:
    """A genesis validator, by number."""
    return get_dev_identity(f"validator-{number}")


@cache
def get_payer(number: int) -> DevIdentity:
    """An account with money that does nothing at genesis, by number."""
    return get_dev_identity(f"payer-{number}")


def build_spec(validators: int = VALIDATORS, **params: Any) -> ChainSpec:
    """The development chain at the size of `ASSUMED`; `params` change those of inference."""
    names = (BYSTANDER.name, *(get_payer(number).name for number in range(_PAYERS)))
    spec = build_dev_spec(tuple(get_validator(number).name for number in range(validators)), names=names)
    found = spec.params
    staking = replace(
        found.staking,
        validators_max=VALIDATORS,
        epoch_blocks=EPOCH_BLOCKS,
        unbonding_blocks=OUTFLOW_EPOCHS * EPOCH_BLOCKS,
    )
    system = replace(found.system, block_weight_max=10**12, weight_price_max=found.system.weight_price_min)
    inference = replace(found.inference, **params)
    changed = dataclasses.replace(found, system=system, staking=staking, inference=inference)
    return replace(spec, params=changed)


def read_value(rig: Rig, who: DevIdentity, validator: DevIdentity) -> int:
    """nmyl that `who` has behind a validator in the next block, whether free to move or not."""
    return Book(Overlay(rig.state), who.account, validator.account, rig.height + 1).value


def register_validator(who: DevIdentity) -> calls.RegisterValidator:
    """The call that makes `who` a candidate."""
    proof = who.consensus_key.sign(Tag.KEY_PROOF_SIGN, who.account)
    return calls.RegisterValidator(who.consensus_key.public_key, proof)
