"""What the staking module tells the world."""

from __future__ import annotations

from proto_specs.codec import U32, U64, variant
from proto_specs.types.common import AccountId, Balance, PublicKey


@variant(0x0301)
class Bonded:
    """`amount` became stake of `who`."""

    who: AccountId
    amount: Balance


@variant(0x0302)
class Unbonded:
    """`amount` stopped counting as stake; it can be withdrawn from block `height` on."""

    who: AccountId
    amount: Balance
    height: U64


@variant(0x0303)
class Withdrawn:
    """Matured stake became free balance again."""

    who: AccountId
    amount: Balance


@variant(0x0304)
class ValidatorRegistered:
    """`who` stands for election under `consensus_key`."""

    who: AccountId
    consensus_key: PublicKey


@variant(0x0305)
class ValidatorSlashed:
    """The validator voted twice at `height`: `amount` of its stake was burned and its key is barred for ever."""

    operator: AccountId
    consensus_key: PublicKey
    height: U64
    amount: Balance


@variant(0x0306)
class ValidatorRewarded:
    """An epoch's emission share: `signed` of `blocks` commits carried the validator's precommit."""

    operator: AccountId
    amount: Balance
    signed: U32
    blocks: U32


@variant(0x0307)
class EpochEnded:
    """The epoch's emission was `minted`, and the next blocks are decided by `validators` validators of `power`."""

    epoch: U64
    minted: Balance
    validators: U32
    power: U64


StakingEvent = Bonded | Unbonded | Withdrawn | ValidatorRegistered | ValidatorSlashed | ValidatorRewarded | EpochEnded
