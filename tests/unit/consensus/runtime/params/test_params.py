"""Changing parameters by vote: who may, how far, what counts, and what a minority or a majority cannot do."""

from __future__ import annotations

from dataclasses import fields

import pytest

from consensus.runtime.balances.state import HoldReason, read_hold
from consensus.runtime.params import errors
from consensus.runtime.params import state as governance
from consensus.runtime.params.bounds import BOUNDS, FIXED
from consensus.runtime.params.events import ParamChanged, ProposalDropped, ProposalPassed, ProposalRejected
from consensus.runtime.params.protocol import (
    RuntimeParams,
    apply_changes,
    get_param,
    read_runtime_params,
)
from consensus.runtime.staking.state import read_validators
from consensus.runtime.system import state as system
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from proto_specs.codec import decode, encode
from proto_specs.types import calls
from proto_specs.types.calls import ParamChange
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking.staking_world import STAKE, build_evidence, register, to_epoch_end

ALICE, BOB, CHARLIE, DAVE, EVE = (get_dev_identity(one) for one in ("alice", "bob", "charlie", "dave", "eve"))
NAME = "system.fee_base"
CHANGE = calls.ProposeParams((ParamChange(NAME, 12_345),))


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_dev_spec(("alice", "bob", "charlie", "dave")))


def test_every_parameter_has_a_bound_that_fits_its_type(chain: Chain) -> None:
    params = read_runtime_params(chain.state)
    names = [f"{module.name}.{one.name}" for module in fields(params) for one in fields(getattr(params, module.name))]
    assert sorted(names) == sorted([*BOUNDS, *FIXED])
    for name, bound in BOUNDS.items():
        assert bound.least <= get_param(params, name) <= bound.most, name
        for value in (bound.least, bound.most):
            changed = apply_changes(params, [ParamChange(name, value)])
            assert decode(RuntimeParams, encode(changed, RuntimeParams)) == changed


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ((), errors.NoChanges),
        ((ParamChange("system.nothing", 1),), errors.UnknownParam),
        ((ParamChange("staking.epoch_blocks", 7),), errors.FixedParam),
        ((ParamChange(NAME, 1), ParamChange(NAME, 2)), errors.DuplicateParam),
        ((ParamChange("system.block_weight_max", 0),), errors.OutOfBounds),
        ((ParamChange("system.block_bytes_max", 1),), errors.OutOfBounds),
        ((ParamChange("system.weight_price_change_denominator", 0),), errors.OutOfBounds),
        ((ParamChange("governance.approval_permille", 1_000),), errors.OutOfBounds),
        ((ParamChange("inference.fails_min", 32),), errors.InconsistentParams),
        ((ParamChange("staking.unbonding_blocks", 109),), errors.InconsistentParams),
        ((ParamChange("staking.unbonding_blocks", 1_271),), errors.InconsistentParams),
        ((ParamChange("staking.evidence_blocks", 191),), errors.InconsistentParams),
    ],
)
def test_what_nobody_can_propose(
    chain: Chain, changes: tuple[ParamChange, ...], error: type[errors.ParamsError]
) -> None:
    chain.expect_error(ALICE, calls.ProposeParams(changes), error)


def test_only_the_elected_and_one_at_a_time(chain: Chain) -> None:
    chain.expect_error(EVE, CHANGE, errors.NotElected)
    chain.expect_error(ALICE, calls.VoteParams(0, True), errors.UnknownProposal)
    chain.expect_ok(ALICE, CHANGE)
    chain.expect_error(ALICE, CHANGE, errors.ProposalOpen)
    chain.expect_error(EVE, calls.VoteParams(0, True), errors.NotElected)


@pytest.mark.parametrize("passes", [True, False])
def test_more_than_two_thirds_or_nothing(chain: Chain, passes: bool) -> None:
    chain.expect_ok(ALICE, CHANGE)
    before = system.params.read(chain.state)
    for who in (ALICE, BOB, CHARLIE):
        chain.expect_ok(who, calls.VoteParams(0, True))
    if not passes:
        chain.expect_ok(CHARLIE, calls.VoteParams(0, False))
    proposal = governance.read_proposal(chain.state, 0)
    assert proposal is not None
    events = chain.skip(proposal.deadline - chain.height)
    kinds = {type(one) for one in events}
    assert (ProposalPassed in kinds, ProposalRejected in kinds, ParamChanged in kinds) == (passes, not passes, passes)
    assert system.params.read(chain.state).fee_base == (12_345 if passes else before.fee_base)
    assert read_hold(chain.state, ALICE.account, HoldReason.PROPOSAL_DEPOSIT) == 0
    chain.expect_error(BOB, calls.VoteParams(0, True), errors.UnknownProposal)


def test_a_flood_is_counted_one_a_block(chain: Chain) -> None:
    chain.block([chain.sign(who, CHANGE) for who in (ALICE, BOB, CHARLIE, DAVE)])
    deadlines = [one.deadline for _, one in governance.list_proposals(chain.state)]
    assert deadlines == list(range(deadlines[0], deadlines[0] + 4))


def propose(chain: Chain, proposer: DevIdentity, *changes: tuple[str, int]) -> None:
    """A proposal for which three of the four operators vote."""
    chain.expect_ok(proposer, calls.ProposeParams(tuple(ParamChange(name, value) for name, value in changes)))
    number = governance.next_proposal.read(chain.state) - 1
    votes = [chain.sign(who, calls.VoteParams(number, True)) for who in (ALICE, BOB, CHARLIE)]
    assert [one.error for one in chain.block(votes).receipts] == [None] * 3


def test_of_two_that_pass_and_contradict_each_other_the_second_is_dropped_whole(chain: Chain) -> None:
    """Each was sound when it was proposed. Nobody can smuggle a contradiction in by halves."""
    propose(chain, ALICE, ("staking.evidence_blocks", 150))
    propose(chain, BOB, (NAME, 12_345), ("staking.unbonding_blocks", 159))
    before = read_runtime_params(chain.state)
    first, second = (one.deadline for _, one in governance.list_proposals(chain.state))
    chain.skip(first - chain.height)
    after = apply_changes(before, [ParamChange("staking.evidence_blocks", 150)])
    assert read_runtime_params(chain.state) == after
    events = chain.skip(second - chain.height)
    assert [one for one in events if isinstance(one, ProposalPassed)]
    assert [one for one in events if isinstance(one, ProposalDropped)] == [
        ProposalDropped(1, "staking.unbonding_blocks")
    ]
    assert not [one for one in events if isinstance(one, ParamChanged)]
    assert read_runtime_params(chain.state) == after
    assert read_hold(chain.state, BOB.account, HoldReason.PROPOSAL_DEPOSIT) == 0
    chain.expect_ok(BOB, CHANGE)


def test_a_proposal_nobody_votes_on_is_over_at_its_deadline(chain: Chain) -> None:
    chain.expect_ok(ALICE, CHANGE)
    voting = chain.spec.params.governance.voting_blocks
    assert not [one for one in chain.skip(voting - 1) if isinstance(one, ProposalRejected)]
    chain.expect_error(ALICE, CHANGE, errors.ProposalOpen)
    assert chain.last is not None
    assert [one.approving for one in chain.last.events.finalize if isinstance(one, ProposalRejected)] == [0]
    assert governance.list_proposals(chain.state) == []
    chain.expect_ok(ALICE, CHANGE)


def test_a_vote_of_who_is_elected_no_more_does_not_count(chain: Chain) -> None:
    """Neither for the approving nor for the total: a convict's stake has no say on either side."""
    chain.expect_ok(ALICE, CHANGE)
    votes = {ALICE: True, BOB: True, CHARLIE: True, DAVE: False}
    chain.block([chain.sign(who, calls.VoteParams(0, approve)) for who, approve in votes.items()])
    chain.proposer = BOB
    chain.block(evidence=[build_evidence(chain, ALICE, 1)])
    chain.expect_error(ALICE, calls.VoteParams(0, False), errors.NotElected)
    deadline = governance.list_proposals(chain.state)[0][1].deadline
    (told,) = [one for one in chain.skip(deadline - chain.height) if isinstance(one, ProposalPassed | ProposalRejected)]
    powers = {one.operator: one.power for one in read_validators(chain.state).members}
    assert sorted(powers) == sorted(one.account for one in (BOB, CHARLIE, DAVE))
    assert (told.approving, told.rejecting) == (powers[BOB.account] + powers[CHARLIE.account], powers[DAVE.account])
    assert told.total == sum(powers.values())
    assert isinstance(told, ProposalPassed), "two of three: 666.6 permille of those who are left"


def test_who_is_elected_later_may_vote_later(chain: Chain) -> None:
    chain.expect_error(EVE, calls.VoteParams(0, True), errors.NotElected)
    chain.expect_ok(ALICE, CHANGE)
    chain.expect_ok(EVE, calls.Bond(STAKE))
    chain.expect_ok(EVE, register(EVE))
    chain.expect_error(EVE, calls.VoteParams(0, True), errors.NotElected)
    to_epoch_end(chain)
    chain.expect_ok(EVE, calls.VoteParams(0, True))
