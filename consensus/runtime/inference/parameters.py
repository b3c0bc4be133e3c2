"""The parameters of the inference module. Which values are sound, and what a vote may set: consensus/runtime/params."""

from __future__ import annotations

from proto_specs.codec import U8, U16, U32, record
from proto_specs.types.common import Balance


@record
class InferenceParams:
    """Money and time of the module.

    `exposure_factor` and `detection_permille` are 3 and d of `S >= 3 R / (p d)`. The permille shares are of a stage's
    gross price (`burn`, `verification`), of a worker's bond (`fail_slash`), and of what is left of a slash when the
    client is compensated (`bounty`). A contested challenge goes to `contest_committee_size` more verifiers. A worker
    unavailable `unavailable_max` times in a row takes no new work for `worker_jail_blocks`. Emission counts a
    worker's bond up to `capacity_bond_per_layer` for each of its layers, times its audit score, which every audit moves
    by `audit_score_step_permille` of the way; up to `audits_per_epoch` workers are audited an epoch (audits.md).
    Reports of absence count for `absence_blocks`. A draw waits until more than `draw_power_permille` of the power has
    made a block since the settlement; 0 waits for nothing.

    A settlement that lacks stages, or whose voucher is not final, can be joined for `join_blocks` (joins.py). A client
    bonds `client_bond_permille` of what it escrows, until `client_bond_blocks` after its session's end; of a bond that
    is slashed up to `client_compensation_permille` go to the workers of the order that was not paid (doubles.py).
    Committees (benches.py, standing.py): no outcome without `committee_members_min` eligible members who hold
    `committee_stake_permille` of the stake of all that could be drawn. One with `open_challenges_max` open seats gets
    no more; a draw without enough free ones comes again after `postpone_blocks`, up to `postpone_max` times. One that
    unregisters is drawn for `verifier_notice_blocks` more. A settler deposits `verification_deposit` a stage. An
    outlier gets `miss_points`, takes one off whenever it carries a verdict, and pays above `miss_points_max`; silence
    and outliers together cost up to `silence_epoch_permille` of a stake an epoch.

    Withholding (conduct.py): a stage that was drawn and not opened costs gross / p, at least `unavailable_min`; of
    gross / p `unavailable_bounty_permille` go to who found it. Until it was paid `probation_value` for verified stages
    since its last fault, a worker is drawn always. Jails double up to `jail_doublings_max` times.
    """

    worker_bond_min: Balance
    worker_unbonding_blocks: U32
    session_notice_blocks: U32
    session_expiry_blocks: U32
    session_deposit_min: Balance
    base_challenge_ppm: U32
    exposure_factor: U16
    detection_permille: U16
    committee_size: U8
    fails_min: U8
    commit_blocks: U32
    reveal_blocks: U32
    burn_permille: U16
    verification_permille: U16
    fail_slash_permille: U16
    bounty_permille: U16
    retention_blocks: U32
    contest_committee_size: U8
    unavailable_max: U16
    worker_jail_blocks: U32
    equivocation_slash_permille: U16
    capacity_bond_per_layer: Balance
    audits_per_epoch: U16
    audit_score_step_permille: U16
    absence_blocks: U32
    join_blocks: U32
    client_bond_permille: U16
    client_bond_blocks: U32
    client_compensation_permille: U16
    committee_members_min: U8
    committee_stake_permille: U16
    open_challenges_max: U16
    postpone_blocks: U32
    postpone_max: U16
    verifier_notice_blocks: U32
    verification_deposit: Balance
    miss_points: U16
    miss_points_max: U16
    silence_epoch_permille: U16
    unavailable_min: Balance
    unavailable_bounty_permille: U16
    probation_value: Balance
    jail_doublings_max: U8
    draw_power_permille: U16
