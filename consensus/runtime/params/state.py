"""State of the params module: its own rules, open proposals and votes. Amounts are nmyl, times are blocks."""

from __future__ import annotations

from typing import Annotated

from consensus.state.reader import StateReader
from consensus.state.storage import StorageMap, StorageValue
from proto_specs.codec import U8, U16, U32, U64, Max, record
from proto_specs.limits import PARAM_CHANGES_MAX
from proto_specs.types.calls import ParamChange
from proto_specs.types.common import AccountId, Balance


@record
class GovernanceParams:
    """How constants change: a proposal costs `proposal_deposit` while it is open, for `voting_blocks`, and passes when
    more than `approval_permille` of the elected stake approves."""

    proposal_deposit: Balance
    voting_blocks: U32
    approval_permille: U16


@record
class ParamsProposal:
    """Changes under vote, applied together or not at all. Votes are counted at the end of block `deadline`.

    `deposit` is held of `proposer` as HoldReason.PROPOSAL_DEPOSIT.
    """

    proposer: AccountId
    deposit: Balance
    deadline: U64
    changes: Annotated[tuple[ParamChange, ...], Max(PARAM_CHANGES_MAX)]


params: StorageValue[GovernanceParams] = StorageValue("params.params", GovernanceParams)
next_proposal: StorageValue[int] = StorageValue("params.next_proposal", U64, 0)
proposals: StorageMap[ParamsProposal] = StorageMap("params.proposal", (U64,), ParamsProposal)
proposal_by_operator: StorageMap[int] = StorageMap("params.proposal_by_operator", (AccountId,), U64)
votes: StorageMap[int] = StorageMap("params.vote", (U64, AccountId), U8)
"""1 approves, 0 rejects."""
due: StorageMap[int] = StorageMap("params.due", (U64,), U64)
"""The proposal whose votes are counted at the end of a block."""


def read_params(state: StateReader) -> GovernanceParams:
    """The module's parameters."""
    return params.read(state)


def read_proposal(state: StateReader, proposal: int) -> ParamsProposal | None:
    """An open proposal; None when it was never made or is over."""
    return proposals.read(state, proposal)


def list_proposals(state: StateReader) -> list[tuple[int, ParamsProposal]]:
    """(number, proposal) of everything under vote, oldest first."""
    return [(key[0], proposal) for key, proposal in proposals.iterate(state)]


def list_votes(state: StateReader, proposal: int) -> list[tuple[bytes, bool]]:
    """(operator, approves) of every vote cast on an open proposal, by account."""
    return [(key[1], bool(vote)) for key, vote in votes.iterate(state, proposal)]
