"""How far a vote may move each parameter: the least and the most, and the parameters that no vote may move.

Genesis may set anything sound (relations.py). These bounds limit a majority's vote: whatever passes, in whatever
order, blocks are still made, a vote's transaction fits into a block, and the validators that decide blocks can afford
to vote a change back. A bound that exists for such a reason says so.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.runtime.arithmetic import BALANCE_MAX, PERMILLE, PPM
from consensus.runtime.weights import CALL_WEIGHT_MAX
from proto_specs.limits import (
    BLOCK_BYTES_MAX,
    COMMITTEE_MAX,
    EXTRINSIC_BYTES_MAX,
    KIB,
    MULTISIG_SIGNATORIES_MAX,
    VALIDATORS_MAX,
)
from proto_specs.types.common import NMYL_PER_MYL

BLOCK_OVERHEAD_BYTES_MAX = 256 * KIB
"""The most that a block holds besides transactions: header, `BLOCK_INHERENTS_MAX` pieces of evidence, a commit of
`VALIDATORS_MAX` signatures. With it, a block full to `block_bytes_max` still keeps the limit on block length."""

GOVERNANCE_FEE_MAX = 10 * NMYL_PER_MYL
"""The largest proposal, and every vote, costs less than this at the highest prices a vote can set."""

_WEIGHT_SECOND = 1_000_000
_BLOCKS_YEAR = 31_536_000
_MS_DAY = 86_400_000
_U32_MAX = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Bound:
    """The least and the most a vote may set."""

    least: int
    most: int


FIXED: dict[str, str] = {
    "staking.epoch_blocks": "epochs are numbered by it: emission, election and what offences reach are kept by epoch",
}
"""Parameters that stay as genesis set them, each with the reason."""

SYSTEM = {
    # Every single call fits into what is left when shares are reserved, with room for dozens of votes. More than 4 s of
    # work in a block outlasts the timeouts.
    "system.block_weight_max": Bound(2 * CALL_WEIGHT_MAX, 4 * _WEIGHT_SECOND),
    # Every valid transaction fits, next to the rest of the block.
    "system.block_bytes_max": Bound(4 * EXTRINSIC_BYTES_MAX, BLOCK_BYTES_MAX - BLOCK_OVERHEAD_BYTES_MAX),
    # With all three at their maximum a vote costs 2 MYL.
    "system.fee_base": Bound(0, NMYL_PER_MYL),
    "system.byte_price": Bound(0, 100_000),
    "system.weight_price_max": Bound(1, 1_000_000),
    "system.weight_price_min": Bound(1, 1_000_000),
    "system.fullness_target_permille": Bound(100, 900),
    # At 8 a full block moves the price by an eighth; a faster price would swing past the level that fills a block.
    "system.weight_price_change_denominator": Bound(8, 4_096),
    # With both at their most half of a block is left for common calls. Without a reserve verdicts can be kept out.
    "system.reserved_permille": Bound(50, 300),
    # Work that is due is done some day whatever this is; below a twentieth of a block that day could be far.
    "system.due_permille": Bound(50, 200),
}

BALANCES = {
    "balances.existential_deposit": Bound(1, NMYL_PER_MYL),
}

STAKING = {
    # Fewer than four validators tolerate no fault.
    "staking.validators_max": Bound(4, VALIDATORS_MAX),
    # Above the highest cost of a proposal. When no candidate has this stake, the elected set stays.
    "staking.validator_stake_min": Bound(GOVERNANCE_FEE_MAX, 10_000_000 * NMYL_PER_MYL),
    "staking.unbonding_blocks": Bound(20, _BLOCKS_YEAR),
    "staking.evidence_blocks": Bound(10, _BLOCKS_YEAR),
    "staking.evidence_ms": Bound(10_000, 366 * _MS_DAY),
    "staking.double_vote_slash_permille": Bound(1, PERMILLE),
    "staking.emission_per_epoch": Bound(0, 100_000_000 * NMYL_PER_MYL),
    "staking.emission_halving_epochs": Bound(1, _U32_MAX),
    "staking.issuance_max": Bound(0, BALANCE_MAX),
    "staking.worker_emission_permille": Bound(0, PERMILLE),
    "staking.audit_emission_permille": Bound(0, PERMILLE),
    "staking.delegation_min": Bound(1, 1_000 * NMYL_PER_MYL),
    "staking.commission_permille_max": Bound(0, PERMILLE),
    "staking.commission_step_permille": Bound(1, PERMILLE),
    # A validator that misses one block in ten is no traitor: absence is jailed and cut, not confiscated.
    "staking.downtime_permille": Bound(0, 900),
    "staking.downtime_slash_permille": Bound(0, 100),
    "staking.jail_blocks": Bound(1, _BLOCKS_YEAR),
    # What signing earns stays the larger part: a block needs two thirds to sign and one to propose.
    "staking.proposal_permille": Bound(0, PERMILLE // 2),
    "staking.declines_max": Bound(1, 10_000),
}

INFERENCE = {
    "inference.worker_bond_min": Bound(1, 1_000_000 * NMYL_PER_MYL),
    "inference.worker_unbonding_blocks": Bound(20, _BLOCKS_YEAR),
    "inference.session_notice_blocks": Bound(1, 100_000),
    "inference.session_expiry_blocks": Bound(10, _BLOCKS_YEAR),
    "inference.session_deposit_min": Bound(0, 1_000 * NMYL_PER_MYL),
    # Work that is never drawn is never checked.
    "inference.base_challenge_ppm": Bound(100, PPM),
    "inference.exposure_factor": Bound(1, 100),
    "inference.detection_permille": Bound(100, PERMILLE),
    # Half of the seats each: a challenge drawn under one value and contested under the next still fits its record.
    "inference.committee_size": Bound(1, COMMITTEE_MAX // 2),
    "inference.contest_committee_size": Bound(0, COMMITTEE_MAX // 2),
    "inference.fails_min": Bound(1, COMMITTEE_MAX // 2),
    "inference.commit_blocks": Bound(2, 100_000),
    "inference.reveal_blocks": Bound(2, 100_000),
    "inference.burn_permille": Bound(0, PERMILLE // 2),
    "inference.verification_permille": Bound(0, PERMILLE // 2),
    "inference.fail_slash_permille": Bound(1, PERMILLE),
    "inference.bounty_permille": Bound(0, PERMILLE),
    "inference.retention_blocks": Bound(100, _BLOCKS_YEAR),
    "inference.unavailable_max": Bound(1, 1_000),
    "inference.worker_jail_blocks": Bound(1, _BLOCKS_YEAR),
    "inference.equivocation_slash_permille": Bound(0, PERMILLE),
    "inference.capacity_bond_per_layer": Bound(0, 100_000 * NMYL_PER_MYL),
    # All audits of an epoch are drawn in one block.
    "inference.audits_per_epoch": Bound(0, 64),
    "inference.audit_score_step_permille": Bound(1, PERMILLE),
    # Fewer, and the reports of a quorum do not meet; more, and a worker that came back long ago is marked by old ones.
    "inference.absence_blocks": Bound(10, 100_000),
    # Time for a worker to see a settlement in one block and to have its roots in a later one.
    "inference.join_blocks": Bound(4, 100_000),
    "inference.client_bond_permille": Bound(0, PERMILLE),
    "inference.client_bond_blocks": Bound(10, _BLOCKS_YEAR),
    # With the reporter's tenth at least two tenths burn: a client that reports itself always loses.
    "inference.client_compensation_permille": Bound(0, 700),
    "inference.committee_members_min": Bound(1, COMMITTEE_MAX // 2),
    # Above two thirds a third of the stake that stays away would stop all settlement.
    "inference.committee_stake_permille": Bound(0, 666),
    "inference.open_challenges_max": Bound(4, 4_096),
    "inference.postpone_blocks": Bound(1, 1_000),
    "inference.postpone_max": Bound(1, 1_000),
    # Longer than a draw takes: whoever settles knows who can be drawn.
    "inference.verifier_notice_blocks": Bound(4, 1_000_000),
    "inference.verification_deposit": Bound(0, 1_000 * NMYL_PER_MYL),
    # Points of one outlier and of the bound: 1 in (points + 1) seats may go wrong for ever.
    "inference.miss_points": Bound(0, 100),
    "inference.miss_points_max": Bound(1, 10_000),
    # An attack on a verifier's machine is no reason to take its stake.
    "inference.silence_epoch_permille": Bound(1, 100),
    "inference.unavailable_min": Bound(0, 1_000_000 * NMYL_PER_MYL),
    "inference.unavailable_bounty_permille": Bound(0, PERMILLE // 2),
    "inference.probation_value": Bound(0, 1_000_000 * NMYL_PER_MYL),
    # The jail's blocks, doubled so often, stay a number of blocks.
    "inference.jail_doublings_max": Bound(0, 16),
    # A third is all that helps: whoever has more can stop the chain. Two thirds may have to be waited for, not more.
    "inference.draw_power_permille": Bound(0, 500),
}

GOVERNANCE = {
    # A relation also keeps it below a validator's minimum stake.
    "governance.proposal_deposit": Bound(0, 100_000 * NMYL_PER_MYL),
    # Long enough to see a change coming and leave, short enough to undo one.
    "governance.voting_blocks": Bound(20, 1_000_000),
    # The two thirds that keep the chain going can always vote a change back, even if the last third is silent.
    "governance.approval_permille": Bound(500, 666),
}

MULTISIG = {
    "multisig.deposit_base": Bound(0, 1_000 * NMYL_PER_MYL),
    "multisig.deposit_per_signatory": Bound(0, 1_000 * NMYL_PER_MYL // MULTISIG_SIGNATORIES_MAX),
}

BOUNDS: dict[str, Bound] = {**SYSTEM, **BALANCES, **STAKING, **INFERENCE, **GOVERNANCE, **MULTISIG}
"""Every parameter a vote may change."""
