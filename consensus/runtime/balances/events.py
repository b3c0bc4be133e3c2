"""Events of the balances module. The module that makes a hold emits the event for it."""

from __future__ import annotations

from proto_specs.codec import variant
from proto_specs.types.common import AccountId, Balance


@variant(0x0201)
class Transferred:
    """`amount` moved from `source` to `dest`."""

    source: AccountId
    dest: AccountId
    amount: Balance


@variant(0x0202)
class TipsPaid:
    """The block's tips went to the operator of its proposer."""

    operator: AccountId
    amount: Balance


@variant(0x0203)
class FeesBurned:
    """The block's fees (without tips) left the issuance."""

    amount: Balance
