"""What the balances module tells the world. Holds are told by the module that makes them."""

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
