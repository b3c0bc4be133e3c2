"""Events of what clients promised: settlements that were joined, and promises that were made twice. Amounts in nmyl."""

from __future__ import annotations

from proto_specs.codec import U8, U32, U64, variant
from proto_specs.types.common import AccountId, Balance, Hash32


@variant(0x0423)
class SettlementJoined:
    """A pending settlement has `stages` stages now and costs `price`; the draw is in block `draw_height`."""

    request: Hash32
    settler: AccountId
    tokens: U32
    stages: U8
    price: Balance
    root: Hash32
    draw_height: U64


@variant(0x0424)
class ClientConvicted:
    """The client promised what `request` needs twice. amount = bounty (reporter) + compensation (workers) + burned."""

    session: Hash32
    client: AccountId
    reporter: AccountId
    request: Hash32
    other: Hash32
    amount: Balance
    bounty: Balance
    compensation: Balance
    burned: Balance


@variant(0x0425)
class ClientBondReturned:
    """The bond of a session that ended went back to the client."""

    session: Hash32
    client: AccountId
    bond: Balance


PromiseEvent = SettlementJoined | ClientConvicted | ClientBondReturned
