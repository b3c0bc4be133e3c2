"""Errors of staking calls."""

from __future__ import annotations

from consensus.runtime.errors import CallError
from proto_specs.types.calls import ModuleIndex


class StakingError(CallError):
    """Root of this module's errors."""

    module = ModuleIndex.STAKING


class ZeroStake(StakingError):
    """An amount of zero changes no stake."""


class InsufficientStake(StakingError):
    """Less is bonded than was to be unbonded, or a validator's own stake is below the minimum."""


class TooManyUnbonding(StakingError):
    """The unbonding queue is full: withdraw what has matured first."""


class NothingToWithdraw(StakingError):
    """No unbonding stake has matured."""


class AlreadyRegistered(StakingError):
    """The account stands for election already."""


class KeyTaken(StakingError):
    """Another account registered the consensus key."""


class KeyIsForLife(StakingError):
    """The account registered under another consensus key before: offences of that key stay its own."""


class BadValidatorKeyProof(StakingError):
    """The consensus key did not sign the account."""


class NoValidator(StakingError):
    """The account does not stand for election."""


class Tombstoned(StakingError):
    """The validator's key double-signed and is barred for ever."""


class NotJailed(StakingError):
    """There is no jail term to end."""


class StillJailed(StakingError):
    """The jail term is not over."""


class CommissionTooHigh(StakingError):
    """The commission would be above the chain's maximum."""


class CommissionStepTooLarge(StakingError):
    """A commission moves by at most a bounded step per epoch."""


class DelegationTooSmall(StakingError):
    """A delegation would begin or remain below the chain's minimum, or a part below the minimum would leave."""


class InsufficientDelegation(StakingError):
    """The delegation is worth less than the amount to be moved."""


class NoDelegation(StakingError):
    """The account delegates nothing to this validator."""


class NothingToClaim(StakingError):
    """The delegation has earned nothing since the last claim."""


class SameValidator(StakingError):
    """Source and destination of a redelegation are the same validator."""


class StillLiable(StakingError):
    """The stake was redelegated before and is still liable for that source: it can be undelegated, not redelegated."""


class TooManyRedelegations(StakingError):
    """The delegator has too many liable redelegations here, or the source sent to too many validators this epoch."""


class PoolDrained(StakingError):
    """The validator was slashed so far down that no new delegation can be counted beside the old ones."""
