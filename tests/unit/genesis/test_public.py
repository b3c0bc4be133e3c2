"""The parameters of a public chain are sound, within what votes may set, and say no money of their own."""

from __future__ import annotations

from consensus.runtime.params.bounds import BOUNDS
from consensus.runtime.params.protocol import get_param
from consensus.runtime.params.relations import validate_params
from genesis.dev import build_dev_params
from genesis.public import build_public_params


def test_they_are_sound_and_a_vote_could_have_set_them() -> None:
    params = build_public_params()
    validate_params(params)
    for name, bound in BOUNDS.items():
        assert bound.least <= get_param(params, name) <= bound.most, name


def test_as_much_is_minted_a_block_as_on_the_development_chain() -> None:
    public, dev = build_public_params().staking, build_dev_params().staking
    assert public.emission_per_epoch * dev.epoch_blocks == dev.emission_per_epoch * public.epoch_blocks


def test_no_verdict_is_one_verifier_s() -> None:
    params = build_public_params().inference
    assert params.base_challenge_ppm < build_dev_params().inference.base_challenge_ppm
    assert 2 <= params.fails_min <= params.committee_members_min <= params.committee_size
