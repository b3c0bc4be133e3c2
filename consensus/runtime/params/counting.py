"""Counts votes at a proposal's deadline and changes parameters. At most one proposal per block, at its end.

Stake counts as it is at the count: the vote of an operator that is not elected then counts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.params import state as governance
from consensus.runtime.params.errors import UnsoundParams
from consensus.runtime.params.events import ParamChanged, ProposalDropped, ProposalPassed, ProposalRejected
from consensus.runtime.params.protocol import apply_changes, get_param, read_runtime_params, write_runtime_params
from consensus.runtime.params.relations import validate_params
from consensus.runtime.params.state import ParamsProposal
from consensus.runtime.staking.state import read_validators
from consensus.state.reader import StateReader


@dataclass(frozen=True, slots=True)
class Count:
    """Stake in nmyl that approves, that rejects, and of all elected validators."""

    approving: int
    rejecting: int
    total: int

    def is_passing(self, approval_permille: int) -> bool:
        """Whether MORE than this many thousandths of all the elected stake approve. Silence does not approve."""
        return self.approving * PERMILLE > approval_permille * self.total


def finalize(env: Environment) -> None:
    """Counts the votes due in this block. Changes hold from the next block on."""
    number = governance.due.read(env.state, env.block.height)
    if number is None:
        return
    proposal = governance.read_proposal(env.state, number)
    assert proposal is not None, "a proposal stays until its deadline"
    count = count_votes(env.state, number)
    is_passing = count.is_passing(governance.read_params(env.state).approval_permille)
    _forget(env, number, proposal)
    told = ProposalPassed if is_passing else ProposalRejected
    env.emit(told(number, count.approving, count.rejecting, count.total))
    if is_passing:
        _enact(env, number, proposal)


def count_votes(state: StateReader, proposal: int) -> Count:
    """The stake behind the votes on an open proposal, with the validators elected now."""
    votes = dict(governance.list_votes(state, proposal))
    members = read_validators(state).members
    approving = sum(member.power for member in members if votes.get(member.operator) is True)
    rejecting = sum(member.power for member in members if votes.get(member.operator) is False)
    return Count(approving, rejecting, sum(member.power for member in members))


def _enact(env: Environment, number: int, proposal: ParamsProposal) -> None:
    """Makes all the changes or none. The proposal's values are within bounds, but the other parameters that they relate
    to may have changed since."""
    before = read_runtime_params(env.state)
    after = apply_changes(before, proposal.changes)
    try:
        validate_params(after)
    except UnsoundParams as error:
        env.emit(ProposalDropped(number, error.field))
        return
    write_runtime_params(env.state, before, after)
    for change in proposal.changes:
        env.emit(ParamChanged(number, change.name, get_param(before, change.name), change.value))


def _forget(env: Environment, number: int, proposal: ParamsProposal) -> None:
    ledger.release(env.state, proposal.proposer, HoldReason.PROPOSAL_DEPOSIT, proposal.deposit)
    governance.due.delete(env.state, proposal.deadline)
    governance.proposal_by_operator.delete(env.state, proposal.proposer)
    governance.proposals.delete(env.state, number)
    for voter, _ in governance.list_votes(env.state, number):
        governance.votes.delete(env.state, number, voter)
