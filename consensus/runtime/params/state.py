"""What the params module keeps: its own rules, open proposals and votes. Amounts are nmyl, times are blocks."""

from __future__ import annotations

from consensus.state.storage import StorageValue
from proto_specs.codec import U16, U32, record
from proto_specs.types.common import Balance


@record
class GovernanceParams:
    """How constants change: a proposal costs `proposal_deposit` while it is open, for `voting_blocks`, and passes when
    more than `approval_permille` of the elected stake approves."""

    proposal_deposit: Balance
    voting_blocks: U32
    approval_permille: U16


params: StorageValue[GovernanceParams] = StorageValue("params.params", GovernanceParams)
