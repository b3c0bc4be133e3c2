"""How staking calls fail."""

from __future__ import annotations

from consensus.runtime.errors import CallError
from proto_specs.types.calls import ModuleIndex


class StakingError(CallError):
    """Root of this module's errors."""

    module = ModuleIndex.STAKING


class ZeroStake(StakingError):
    """An amount of zero changes no stake."""


class InsufficientStake(StakingError):
    """More than is bonded was to be unbonded, or a validator's own stake is below the minimum."""


class TooManyUnbonding(StakingError):
    """The unbonding queue is full: withdraw what has matured first."""


class NothingToWithdraw(StakingError):
    """No unbonding stake has matured."""


class AlreadyRegistered(StakingError):
    """The account stands for election already."""


class KeyTaken(StakingError):
    """The consensus key is another account's."""


class KeyIsForLife(StakingError):
    """The account registered under another consensus key before: offences of that key stay its own."""


class BadValidatorKeyProof(StakingError):
    """The consensus key did not sign the account."""


class NoValidator(StakingError):
    """The account does not stand for election."""


class Tombstoned(StakingError):
    """The validator's key double-signed: nothing brings it back."""


class NotJailed(StakingError):
    """There is no jail term to end."""


class StillJailed(StakingError):
    """The jail term is not over."""


class CommissionTooHigh(StakingError):
    """The commission would be above the chain's maximum."""


class CommissionStepTooLarge(StakingError):
    """A commission moves by a bounded step an epoch."""


class DelegationTooSmall(StakingError):
    """A delegation would begin, or be left, or less than all of it leave, below the chain's minimum."""


class InsufficientDelegation(StakingError):
    """More was to be moved than the delegation is worth."""


class NoDelegation(StakingError):
    """The account delegates nothing to this validator."""


class NothingToClaim(StakingError):
    """The delegation has earned nothing since the last claim."""


class SameValidator(StakingError):
    """Stake was to be redelegated to where it is."""


class StillLiable(StakingError):
    """The stake was redelegated before and is liable for the first validator's past: it can leave, not move on."""


class TooManyRedelegations(StakingError):
    """The delegator has too many liable redelegations here, or the source sent to too many validators this epoch."""


class PoolDrained(StakingError):
    """The validator was slashed so far down that no new delegation can be counted beside the old ones."""
