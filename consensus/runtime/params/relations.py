"""Conditions that parameters must meet, alone and together, for the runtime to work at all. Pure; knows no votes.

Genesis checks a chain spec with them, and so does every change by vote. Votes have narrower bounds: bounds.py.
"""

from __future__ import annotations

from consensus.runtime.arithmetic import BALANCE_MAX
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import DRAW_DELAY_BLOCKS
from consensus.runtime.params.errors import UnsoundParams
from consensus.runtime.params.protocol import RuntimeParams
from consensus.runtime.params.state import GovernanceParams
from consensus.runtime.staking.pool_state import OUTFLOW_EPOCHS_MAX
from consensus.runtime.staking.state import StakingParams
from consensus.runtime.system.state import SystemParams
from proto_specs.limits import BLOCK_BYTES_MAX, COMMITTEE_MAX, VALIDATORS_MAX


def validate_params(params: RuntimeParams) -> None:
    """Raises UnsoundParams naming the field that contradicts itself or another."""
    _validate_system(params.system)
    _validate_staking(params.staking)
    _validate_governance(params.governance, params.staking)
    _validate_inference(params.inference)


def _validate_system(params: SystemParams) -> None:
    _require(0 < params.block_bytes_max <= BLOCK_BYTES_MAX, "system.block_bytes_max", f"is not 1..{BLOCK_BYTES_MAX}")
    target = params.block_weight_max * params.fullness_target_permille // 1_000
    _require(0 < target <= params.block_weight_max, "system.fullness_target_permille", "leaves no target")
    _require(params.weight_price_change_denominator > 0, "system.weight_price_change_denominator", "is zero")
    shares = params.reserved_permille + params.due_permille
    _require(shares < 1_000, "system.reserved_permille", "with due_permille is above 999")
    ordered = 0 < params.weight_price_min <= params.weight_price_max
    _require(ordered, "system.weight_price_min", "is zero or above weight_price_max")


def _validate_staking(params: StakingParams) -> None:
    _require(params.epoch_blocks > 0, "staking.epoch_blocks", "is zero")
    _require(0 < params.validators_max <= VALIDATORS_MAX, "staking.validators_max", f"is not 1..{VALIDATORS_MAX}")
    _require(params.emission_halving_epochs > 0, "staking.emission_halving_epochs", "is zero")
    _require(params.issuance_max <= BALANCE_MAX, "staking.issuance_max", "has more than 64 bits")
    for name in (
        "double_vote_slash_permille",
        "commission_permille_max",
        "commission_step_permille",
        "downtime_permille",
        "downtime_slash_permille",
        "proposal_permille",
    ):
        _require(getattr(params, name) <= 1_000, f"staking.{name}", "is above 1000")
    emission = params.worker_emission_permille + params.audit_emission_permille
    _require(emission <= 1_000, "staking.worker_emission_permille", "with audit_emission_permille is above 1000")
    _require(params.delegation_min > 0, "staking.delegation_min", "is zero")
    # A slash visits OUTFLOW_EPOCHS_MAX epochs: every epoch of an unbonding period must be among them.
    most = (OUTFLOW_EPOCHS_MAX - 1) * params.epoch_blocks
    _require(
        params.unbonding_blocks <= most, "staking.unbonding_blocks", f"is more than {OUTFLOW_EPOCHS_MAX - 1} epochs"
    )
    # Stake that leaves still votes until the end of its epoch, up to `epoch_blocks - 1` blocks later, and evidence
    # of that block counts for `evidence_blocks` more. The money may be free only after that.
    least = params.evidence_blocks + params.epoch_blocks
    _require(
        params.unbonding_blocks >= least,
        "staking.unbonding_blocks",
        f"is below evidence_blocks + epoch_blocks, {least}",
    )


def _validate_governance(params: GovernanceParams, staking: StakingParams) -> None:
    _require(params.voting_blocks > 0, "governance.voting_blocks", "is zero")
    _require(500 <= params.approval_permille < 1_000, "governance.approval_permille", "is not 500..999")
    affordable = params.proposal_deposit <= staking.validator_stake_min
    _require(affordable, "governance.proposal_deposit", "is more than a validator needs as stake")


def _validate_inference(params: InferenceParams) -> None:
    positive = (
        "worker_bond_min",
        "session_notice_blocks",
        "session_expiry_blocks",
        "detection_permille",
        "exposure_factor",
        "commit_blocks",
        "reveal_blocks",
        "fails_min",
        "retention_blocks",
        "absence_blocks",
        "join_blocks",
        "client_bond_blocks",
        "committee_members_min",
        "open_challenges_max",
        "postpone_blocks",
        "miss_points_max",
    )
    for name in positive:
        _require(getattr(params, name) > 0, f"inference.{name}", "is zero")
    _require(params.base_challenge_ppm <= 1_000_000, "inference.base_challenge_ppm", "is above 1000000")
    for name in (
        "detection_permille",
        "fail_slash_permille",
        "bounty_permille",
        "equivocation_slash_permille",
        "audit_score_step_permille",
        "client_bond_permille",
        "client_compensation_permille",
        "committee_stake_permille",
        "silence_epoch_permille",
    ):
        _require(getattr(params, name) <= 1_000, f"inference.{name}", "is above 1000")
    shares = params.burn_permille + params.verification_permille
    _require(shares <= 1_000, "inference.burn_permille", "with verification_permille is above 1000")
    _require(0 < params.committee_size <= COMMITTEE_MAX, "inference.committee_size", f"is not 1..{COMMITTEE_MAX}")
    contest = params.committee_size + params.contest_committee_size <= COMMITTEE_MAX
    _require(contest, "inference.contest_committee_size", f"with committee_size is above {COMMITTEE_MAX}")
    _require(params.fails_min <= params.committee_size, "inference.fails_min", "is above committee_size")
    # A fail that nobody could second would never convict.
    least = params.fails_min <= params.committee_members_min <= params.committee_size
    _require(least, "inference.committee_members_min", "is not fails_min..committee_size")
    # Who says that a worker opened nothing has computed nothing: it may not earn more than who judges.
    honest = params.unavailable_bounty_permille <= params.verification_permille
    _require(honest, "inference.unavailable_bounty_permille", "is above verification_permille")
    notice = params.verifier_notice_blocks > DRAW_DELAY_BLOCKS
    _require(notice, "inference.verifier_notice_blocks", f"has to be above {DRAW_DELAY_BLOCKS}")
    _require(params.jail_doublings_max <= 16, "inference.jail_doublings_max", "is above 16")
    window = DRAW_DELAY_BLOCKS + params.commit_blocks + params.reveal_blocks
    _require(params.worker_unbonding_blocks > window, "inference.worker_unbonding_blocks", f"has to be above {window}")


def _require(holds: bool, field: str, text: str) -> None:
    if not holds:
        raise UnsoundParams(field, text)
