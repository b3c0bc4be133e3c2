"""The parameters of a public chain: those of the development chain, but for what one machine does for convenience.

Amounts and shares of money that are not named here are the same on both. docs/economics.md says what each value
that is named here is good for, in numbers.
"""

from __future__ import annotations

from dataclasses import replace

from consensus.runtime.params.protocol import RuntimeParams
from genesis.dev import build_dev_params
from proto_specs.types.common import NMYL_PER_MYL

HOUR_BLOCKS = 3_600
DAY_BLOCKS = 24 * HOUR_BLOCKS


def build_public_params() -> RuntimeParams:
    """Parameters for strangers: work is sampled, committees judge, and periods take hours and days at a block a second.

    As much is minted a block as on the development chain, 1 MYL, for four years until the first halving.
    """
    dev = build_dev_params()
    staking = replace(
        dev.staking,
        epoch_blocks=HOUR_BLOCKS,
        validators_max=100,
        unbonding_blocks=5 * DAY_BLOCKS,
        evidence_blocks=4 * DAY_BLOCKS,
        evidence_ms=4 * DAY_BLOCKS * 1_000,
        emission_per_epoch=dev.staking.emission_per_epoch * HOUR_BLOCKS // dev.staking.epoch_blocks,
        emission_halving_epochs=4 * 365 * 24,
        jail_blocks=HOUR_BLOCKS,
    )
    inference = replace(
        dev.inference,
        worker_unbonding_blocks=DAY_BLOCKS,
        session_notice_blocks=600,
        session_expiry_blocks=7 * DAY_BLOCKS,
        base_challenge_ppm=20_000,
        committee_size=3,
        fails_min=2,
        retention_blocks=2 * DAY_BLOCKS,
        capacity_bond_per_layer=100 * NMYL_PER_MYL,
        audits_per_epoch=64,
        absence_blocks=600,
        draw_power_permille=334,
        join_blocks=30,
        client_bond_permille=1_000,
        client_bond_blocks=HOUR_BLOCKS,
        committee_members_min=3,
        verifier_notice_blocks=HOUR_BLOCKS,
        verification_deposit=30_000_000,
        probation_value=2 * NMYL_PER_MYL,
    )
    governance = replace(dev.governance, voting_blocks=3 * DAY_BLOCKS)
    return replace(dev, staking=staking, inference=inference, governance=governance)
