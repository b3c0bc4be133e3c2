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
    """More than is bonded was to be unbonded, or a validator's stake is below the minimum."""


class TooManyUnbonding(StakingError):
    """The unbonding queue is full: withdraw what has matured first."""


class NothingToWithdraw(StakingError):
    """No unbonding stake has matured."""


class AlreadyRegistered(StakingError):
    """The account stands for election already."""


class KeyTaken(StakingError):
    """The consensus key was registered before, by whomever."""


class BadKeyProof(StakingError):
    """The consensus key did not sign the account."""
