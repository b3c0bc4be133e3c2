"""Events of the params module. Stakes are nmyl of the validators elected when the votes were counted."""

from __future__ import annotations

from typing import Annotated

from proto_specs.codec import U64, Max, variant
from proto_specs.limits import PARAM_CHANGES_MAX, PARAM_NAME_BYTES_MAX
from proto_specs.types.calls import ParamChange
from proto_specs.types.common import AccountId, Balance


@variant(0x0501)
class ParamsProposed:
    """Changes are put to the vote; votes are counted at the end of block `deadline`."""

    proposal: U64
    proposer: AccountId
    deposit: Balance
    deadline: U64
    changes: Annotated[tuple[ParamChange, ...], Max(PARAM_CHANGES_MAX)]


@variant(0x0502)
class ParamsVoted:
    """An operator approves or rejects; its earlier vote on this proposal no longer counts."""

    proposal: U64
    voter: AccountId
    approve: bool


@variant(0x0503)
class ProposalPassed:
    """Enough of the stake approved: the changes hold from the next block on."""

    proposal: U64
    approving: Balance
    rejecting: Balance
    total: Balance


@variant(0x0504)
class ProposalRejected:
    """Too little of the stake approved."""

    proposal: U64
    approving: Balance
    rejecting: Balance
    total: Balance


@variant(0x0505)
class ProposalDropped:
    """Enough stake approved, but since then other parameters changed and `field` would contradict them: no change."""

    proposal: U64
    field: Annotated[str, Max(PARAM_NAME_BYTES_MAX)]


@variant(0x0506)
class ParamChanged:
    """A parameter has another value from the next block on."""

    proposal: U64
    name: Annotated[str, Max(PARAM_NAME_BYTES_MAX)]
    before: U64
    after: U64


ParamsEvent = ParamsProposed | ParamsVoted | ProposalPassed | ProposalRejected | ProposalDropped | ParamChanged
