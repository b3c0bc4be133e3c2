"""Events of the staking module."""

from __future__ import annotations

from proto_specs.codec import U16, U32, U64, variant
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
    """A validator got its share of an epoch's emission: `signed` of `blocks` commits carried its precommit."""

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


@variant(0x0308)
class Delegated:
    """`amount` of `who` stands behind `validator`."""

    who: AccountId
    validator: AccountId
    amount: Balance


@variant(0x0309)
class Undelegated:
    """`amount` no longer stands behind `validator`; what no slash takes can be withdrawn from block `height` on."""

    who: AccountId
    validator: AccountId
    amount: Balance
    height: U64


@variant(0x030A)
class Redelegated:
    """`amount` moved to `dest`; below block `liable_until` it stays liable for the past of `source`."""

    who: AccountId
    source: AccountId
    dest: AccountId
    amount: Balance
    liable_until: U64


@variant(0x030B)
class DelegationPaid:
    """What the delegation of `who` to `validator` had earned became free balance."""

    who: AccountId
    validator: AccountId
    amount: Balance


@variant(0x030C)
class CommissionSet:
    """The operator keeps `commission_permille` of its delegators' rewards in blocks above `effective_after`."""

    operator: AccountId
    commission_permille: U16
    effective_after: U64


@variant(0x030D)
class ValidatorJailed:
    """The validator signed `signed` of the `blocks` it could sign: it lost `amount` of its stake and its seat."""

    operator: AccountId
    signed: U32
    blocks: U32
    amount: Balance
    until: U64


@variant(0x030E)
class Unjailed:
    """The operator stands for election again."""

    operator: AccountId


@variant(0x030F)
class ValidatorRetired:
    """The operator does not stand for election any more, by its own will or for too little own stake."""

    operator: AccountId


@variant(0x0310)
class DelegationsSlashed:
    """nmyl burned for an offence of `validator`, of stake delegated to it and of stake redelegated away from it."""

    validator: AccountId
    delegated: Balance
    redelegated: Balance


@variant(0x0311)
class LeaverSlashed:
    """`amount` of the stake that `who` withdraws was burned: a slash reached it while it was unbonding."""

    who: AccountId
    amount: Balance


@variant(0x0312)
class DelegatorsRewarded:
    """The delegators of `validator` share `amount` of the epoch's emission, after its operator's commission."""

    validator: AccountId
    amount: Balance
    commission: Balance


@variant(0x0313)
class ValidatorDeclined:
    """The validator took `made` of its `turns` to propose: it lost `amount` of its stake and its seat."""

    operator: AccountId
    made: U32
    turns: U32
    amount: Balance
    until: U64


StakingEvent = (
    Bonded
    | Unbonded
    | Withdrawn
    | ValidatorRegistered
    | ValidatorSlashed
    | ValidatorRewarded
    | EpochEnded
    | Delegated
    | Undelegated
    | Redelegated
    | DelegationPaid
    | CommissionSet
    | ValidatorJailed
    | Unjailed
    | ValidatorRetired
    | DelegationsSlashed
    | LeaverSlashed
    | DelegatorsRewarded
    | ValidatorDeclined
)
