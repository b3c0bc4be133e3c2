"""The development chain. Its keys come from names that anyone can read here: PUBLIC, NEVER FOR REAL MONEY."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from consensus.runtime.balances.state import BalancesParams
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.multisig.state import MultisigParams
from consensus.runtime.params.protocol import RuntimeParams
from consensus.runtime.params.state import GovernanceParams
from consensus.runtime.staking.state import StakingParams
from consensus.runtime.system.state import SystemParams
from genesis.spec import ChainSpec, GenesisAccount, GenesisValidator
from proto_specs.ed25519 import SigningKey
from proto_specs.types.common import NMYL_PER_MYL

DEV_NAMES = ("alice", "bob", "charlie", "dave", "eve", "ferdie", "client")
DEV_SS58_PREFIX = 42
DEV_GENESIS_TIME_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z."""
_DEV_BALANCE = 1_000_000 * NMYL_PER_MYL
_DEV_STAKE = 100_000 * NMYL_PER_MYL


@dataclass(frozen=True, slots=True)
class DevIdentity:
    """All keys of one well-known name, each from a seed of its own."""

    name: str
    account_key: SigningKey
    consensus_key: SigningKey
    worker_key: SigningKey

    @property
    def account(self) -> bytes:
        """The 32-byte account."""
        return self.account_key.public_key


def derive_dev_seed(name: str, role: str = "") -> bytes:
    """BLAKE2b-256 of `myelin-dev/NAME` (the account) or `myelin-dev/NAME/ROLE` (its other keys)."""
    text = f"myelin-dev/{name}" + (f"/{role}" if role else "")
    return hashlib.blake2b(text.encode(), digest_size=32).digest()


def get_dev_identity(name: str) -> DevIdentity:
    """The keys of a name. Any text is a name; the accounts of `DEV_NAMES` have money on the development chain."""
    return DevIdentity(
        name,
        SigningKey.from_seed(derive_dev_seed(name)),
        SigningKey.from_seed(derive_dev_seed(name, "consensus")),
        SigningKey.from_seed(derive_dev_seed(name, "worker")),
    )


def build_dev_spec(
    validators: tuple[str, ...] = ("alice",),
    *,
    name: str = "myelin-dev",
    block_interval_ms: int = 1_000,
    genesis_time_ms: int = DEV_GENESIS_TIME_MS,
    names: tuple[str, ...] = DEV_NAMES,
) -> ChainSpec:
    """A chain with the named validators, each with 100,000 of its 1,000,000 MYL at stake, and short windows."""
    identities = {one: get_dev_identity(one) for one in dict.fromkeys((*names, *validators))}
    accounts = sorted(one.account for one in identities.values())
    elected = [identities[one] for one in validators]
    standing = [GenesisValidator(one.account, one.consensus_key.public_key, _DEV_STAKE) for one in elected]
    return ChainSpec(
        name=name,
        ss58_prefix=DEV_SS58_PREFIX,
        block_interval_ms=block_interval_ms,
        genesis_time_ms=genesis_time_ms,
        accounts=tuple(GenesisAccount(one, _DEV_BALANCE) for one in accounts),
        validators=tuple(sorted(standing, key=lambda one: one.consensus_key)),
        params=build_dev_params(),
    )


def build_dev_params() -> RuntimeParams:
    """Parameters for one machine: every request challenged, one verifier suffices, periods take minutes, not days."""
    return RuntimeParams(
        system=SystemParams(
            block_weight_max=800_000,
            block_bytes_max=1 << 20,
            fee_base=1_000,
            byte_price=10,
            weight_price_min=200,
            weight_price_max=200_000,
            fullness_target_permille=500,
            weight_price_change_denominator=64,
            reserved_permille=250,
            due_permille=200,
        ),
        balances=BalancesParams(existential_deposit=1_000_000),
        staking=StakingParams(
            epoch_blocks=10,
            validators_max=32,
            validator_stake_min=1_000 * NMYL_PER_MYL,
            unbonding_blocks=200,
            evidence_blocks=100,
            evidence_ms=100_000,
            double_vote_slash_permille=50,
            emission_per_epoch=10 * NMYL_PER_MYL,
            emission_halving_epochs=1_000_000,
            issuance_max=15_000_000_000 * NMYL_PER_MYL,
            worker_emission_permille=400,
            audit_emission_permille=100,
            delegation_min=1_000_000,
            commission_permille_max=500,
            commission_step_permille=50,
            downtime_permille=500,
            downtime_slash_permille=1,
            jail_blocks=60,
            proposal_permille=200,
            declines_max=3,
        ),
        inference=_build_inference_params(),
        governance=GovernanceParams(
            proposal_deposit=100 * NMYL_PER_MYL,
            voting_blocks=50,
            approval_permille=666,
        ),
        multisig=MultisigParams(deposit_base=10_000_000, deposit_per_signatory=1_000_000),
    )


def _build_inference_params() -> InferenceParams:
    return InferenceParams(
        worker_bond_min=100 * NMYL_PER_MYL,
        worker_unbonding_blocks=100,
        session_notice_blocks=10,
        session_expiry_blocks=3_600,
        session_deposit_min=1_000_000,
        base_challenge_ppm=1_000_000,
        exposure_factor=3,
        detection_permille=900,
        committee_size=1,
        fails_min=1,
        commit_blocks=20,
        reveal_blocks=20,
        burn_permille=50,
        verification_permille=100,
        fail_slash_permille=500,
        bounty_permille=500,
        retention_blocks=10_000,
        contest_committee_size=4,
        unavailable_max=3,
        worker_jail_blocks=100,
        equivocation_slash_permille=500,
        capacity_bond_per_layer=10 * NMYL_PER_MYL,
        audits_per_epoch=1,
        audit_score_step_permille=250,
        absence_blocks=30,
        join_blocks=6,
        client_bond_permille=200,
        client_bond_blocks=600,
        client_compensation_permille=500,
        committee_members_min=1,
        committee_stake_permille=500,
        open_challenges_max=64,
        postpone_blocks=5,
        postpone_max=60,
        verifier_notice_blocks=20,
        verification_deposit=1_000_000,
        miss_points=5,
        miss_points_max=50,
        silence_epoch_permille=10,
        unavailable_min=NMYL_PER_MYL,
        unavailable_bounty_permille=50,
        probation_value=500_000,
        jail_doublings_max=6,
        draw_power_permille=0,
    )
