"""How balance calls fail."""

from __future__ import annotations

from consensus.runtime.errors import CallError
from proto_specs.types.calls import ModuleIndex


class BalancesError(CallError):
    """Root of this module's errors."""

    module = ModuleIndex.BALANCES


class InsufficientBalance(BalancesError):
    """The free balance is below the amount."""


class BelowExistentialDeposit(BalancesError):
    """The transfer would leave an account with less than the existential deposit, and not with nothing."""


class ZeroAmount(BalancesError):
    """An amount of zero moves nothing."""
