"""Scenarios of staking: queues, memberships and cohorts as full as the rules allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from benchmarks.weights.rig import Rig
from benchmarks.weights.sample import Measurement
from benchmarks.weights.worlds import (
    EPOCH_BLOCKS,
    MYL,
    OUTFLOW_EPOCHS,
    VALIDATORS,
    build_spec,
    get_payer,
    get_validator,
    read_value,
    register_validator,
)
from consensus.runtime.staking.pool_state import COHORTS_MAX, LEAVING_MAX, REDELEGATIONS_MAX
from consensus.runtime.staking.state import UNBONDING_CHUNKS_MAX
from proto_specs.types import calls

DELEGATOR, REDELEGATOR, STANDING, LEAVER = get_payer(0), get_payer(1), get_payer(2), get_payer(3)
SOURCE, DEST = get_validator(0), get_validator(1)
OTHERS = tuple(get_validator(number) for number in range(2, VALIDATORS))
PART = 10 * MYL


def measure() -> Iterator[Measurement]:
    """Measure all calls of staking."""
    yield from _measure_own()
    yield from _measure_withdrawal()
    yield from _measure_delegations(is_mature=False)
    yield from _measure_delegations(is_mature=True)


def _measure_own() -> Iterator[Measurement]:
    rig = Rig(build_spec())
    yield Measurement("Bond", "first stake", "", 0, rig.measure_call(STANDING, calls.Bond(2_000 * MYL)))
    rig.block((STANDING, calls.Bond(2_000 * MYL)))
    call = register_validator(STANDING)
    yield Measurement("RegisterValidator", "new", "", 0, rig.measure_call(STANDING, call))
    rig.block((STANDING, call))
    yield Measurement("SetCommission", "set", "", 0, rig.measure_call(STANDING, calls.SetCommission(50)))
    yield Measurement("RetireValidator", "retire", "", 0, rig.measure_call(STANDING, calls.RetireValidator()))
    for chunk in range(UNBONDING_CHUNKS_MAX - 1):
        rig.block((STANDING, calls.Unbond(MYL + chunk)))
    yield Measurement("Unbond", "last place", "", 0, rig.measure_call(STANDING, calls.Unbond(MYL)))
    rig.block((STANDING, calls.Unbond(MYL)))
    yield Measurement("Bond", "full queue", "", 0, rig.measure_call(STANDING, calls.Bond(MYL)))
    yield from _measure_unjail()


def _measure_unjail() -> Iterator[Measurement]:
    """Measure a validator that signs nothing through an epoch and serves its jail term."""
    spec = build_spec()
    staking = replace(spec.params.staking, jail_blocks=2)
    rig = Rig(replace(spec, params=replace(spec.params, staking=staking)))
    signers = tuple(get_validator(number).consensus_key.public_key for number in range(1, VALIDATORS))
    for _ in range(EPOCH_BLOCKS + 3):
        rig.block(signed_by=signers)
    yield Measurement("Unjail", "term over", "", 0, rig.measure_call(SOURCE, calls.Unjail()))


def _measure_withdrawal() -> Iterator[Measurement]:
    """Measure full and ripe queues, with every delegated amount liable for two validators."""
    for entries in (REDELEGATIONS_MAX + 1, LEAVING_MAX):
        rig = Rig(build_spec())
        rig.block((LEAVER, calls.Bond(2_000 * MYL)), *((LEAVER, calls.Delegate(one.account, PART)) for one in OTHERS))
        rig.skip_epochs(2)
        waiting, left = list(OTHERS), entries
        while left:
            dest, liable = waiting.pop(), min(left - 1, REDELEGATIONS_MAX)
            for source in [waiting.pop() for _ in range(liable)]:
                rig.block((LEAVER, calls.Redelegate(source.account, dest.account, read_value(rig, LEAVER, source))))
            rig.block((LEAVER, calls.Undelegate(dest.account, read_value(rig, LEAVER, dest))))
            left -= liable + 1
        rig.block(*((LEAVER, calls.Unbond(MYL + chunk)) for chunk in range(min(entries, UNBONDING_CHUNKS_MAX))))
        rig.skip_to(rig.height + rig.spec.params.staking.unbonding_blocks)
        sample = rig.measure_call(LEAVER, calls.WithdrawUnbonded())
        yield Measurement("WithdrawUnbonded", "ripe queues", "", entries, sample)


def _measure_delegations(*, is_mature: bool) -> Iterator[Measurement]:
    """Measure with all queues full: the delegator has as many redelegations behind the source as allowed, ripe or not.

    Another account has redelegated away from the source in every epoch, in this epoch to all the validators but one
    that it may.
    """
    rig = Rig(build_spec())
    rig.block(*((DELEGATOR, calls.Delegate(one.account, PART)) for one in (SOURCE, DEST, *OTHERS[:20])))
    rig.block((REDELEGATOR, calls.Delegate(SOURCE.account, 1_000 * PART)))
    rig.skip_epochs(2)
    for one in OTHERS[:REDELEGATIONS_MAX]:
        rig.block((DELEGATOR, calls.Redelegate(one.account, SOURCE.account, PART // 2)))
    if is_mature:
        rig.skip_epochs(2)
    for epoch in range(OUTFLOW_EPOCHS - 1):
        there = OTHERS[30 + epoch]
        rig.block((REDELEGATOR, calls.Redelegate(SOURCE.account, there.account, PART)))
        rig.skip_epochs()
    for one in OTHERS[: REDELEGATIONS_MAX - 1]:
        rig.block((DELEGATOR, calls.Redelegate(one.account, DEST.account, PART // 4)))
    away = OTHERS[len(OTHERS) - COHORTS_MAX + 1 :]
    rig.block(*((REDELEGATOR, calls.Redelegate(SOURCE.account, one.account, PART)) for one in away))
    kind = "ripe redelegations" if is_mature else "liable redelegations"
    sample = rig.measure_call(DELEGATOR, calls.Redelegate(SOURCE.account, DEST.account, PART // 2))
    yield Measurement("Redelegate", kind, "", 0, sample)
    everything = calls.Undelegate(SOURCE.account, read_value(rig, DELEGATOR, SOURCE))
    yield Measurement("Undelegate", kind, "", 0, rig.measure_call(DELEGATOR, everything))
    yield Measurement("Delegate", kind, "", 0, rig.measure_call(DELEGATOR, calls.Delegate(SOURCE.account, PART)))
    yield Measurement("ClaimRewards", kind, "", 0, rig.measure_call(DELEGATOR, calls.ClaimRewards(SOURCE.account)))
