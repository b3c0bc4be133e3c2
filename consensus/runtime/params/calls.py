"""Proposing changes of parameters and voting on them. Only operators of elected validators do either (params.md).

Incentives: each proposal costs a deposit, an operator has at most one open, and one is counted per block. A flood of
proposals therefore delays others by at most as many blocks as there are elected operators, and makes no block dearer.
The deposit comes back even when a proposal fails: otherwise a third of the stake could take the proposers' money by
staying silent.
"""

from __future__ import annotations

from collections.abc import Sequence

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.params import state as governance
from consensus.runtime.params.bounds import BOUNDS, FIXED
from consensus.runtime.params.errors import (
    DuplicateParam,
    FixedParam,
    InconsistentParams,
    NoChanges,
    NotElected,
    OutOfBounds,
    ProposalOpen,
    UnknownParam,
    UnknownProposal,
    UnsoundParams,
)
from consensus.runtime.params.events import ParamsProposed, ParamsVoted
from consensus.runtime.params.protocol import apply_changes, read_runtime_params
from consensus.runtime.params.relations import validate_params
from consensus.runtime.params.state import ParamsProposal
from consensus.runtime.staking.state import read_validators
from proto_specs.types.calls import ParamChange, ProposeParams, VoteParams


def propose_params(env: Environment, signer: bytes, call: ProposeParams) -> None:
    """Put changes to the vote.

    Raises NotElected, ProposalOpen, InsufficientBalance, and what `_validate_changes` and InconsistentParams name.
    """
    _require_elected(env, signer)
    found = governance.proposal_by_operator.read(env.state, signer)
    if found is not None:
        raise ProposalOpen(f"proposal {found} of this operator is open")
    _validate_changes(call.changes)
    try:
        validate_params(apply_changes(read_runtime_params(env.state), call.changes))
    except UnsoundParams as error:
        raise InconsistentParams(str(error)) from error
    params = governance.read_params(env.state)
    ledger.hold(env.state, signer, HoldReason.PROPOSAL_DEPOSIT, params.proposal_deposit)
    deadline = _find_deadline(env, params)
    number = governance.next_proposal.read(env.state)
    proposal = ParamsProposal(signer, params.proposal_deposit, deadline, call.changes)
    governance.next_proposal.write(env.state, number + 1)
    governance.proposals.write(env.state, number, proposal)
    governance.proposal_by_operator.write(env.state, signer, number)
    governance.due.write(env.state, deadline, number)
    env.emit(ParamsProposed(number, signer, proposal.deposit, deadline, call.changes))


def vote_params(env: Environment, signer: bytes, call: VoteParams) -> None:
    """Approve or reject; an operator's last vote counts. Raises NotElected, UnknownProposal."""
    _require_elected(env, signer)
    if governance.read_proposal(env.state, call.proposal) is None:
        raise UnknownProposal(f"proposal {call.proposal} is not open")
    governance.votes.write(env.state, call.proposal, signer, int(call.approve))
    env.emit(ParamsVoted(call.proposal, signer, call.approve))


def _require_elected(env: Environment, signer: bytes) -> None:
    if all(member.operator != signer for member in read_validators(env.state).members):
        raise NotElected("only operators of elected validators propose and vote")


def _validate_changes(changes: Sequence[ParamChange]) -> None:
    """Raises NoChanges, FixedParam, UnknownParam, DuplicateParam, OutOfBounds."""
    if not changes:
        raise NoChanges("a proposal changes something")
    names = [change.name for change in changes]
    for change in changes:
        if change.name in FIXED:
            raise FixedParam(f"{change.name}: {FIXED[change.name]}")
        bound = BOUNDS.get(change.name)
        if bound is None:
            raise UnknownParam(f"{change.name!r} is no parameter")
        if names.count(change.name) > 1:
            raise DuplicateParam(f"{change.name} is named twice")
        if not bound.least <= change.value <= bound.most:
            raise OutOfBounds(f"{change.name} is {bound.least} to {bound.most}, not {change.value}")


def _find_deadline(env: Environment, params: governance.GovernanceParams) -> int:
    """The first block, from the end of the voting time on, in which no other proposal is counted."""
    height = env.block.height + params.voting_blocks
    while governance.due.read(env.state, height) is not None:
        height += 1
    return height
