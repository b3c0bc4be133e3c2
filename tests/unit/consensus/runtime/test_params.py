"""Changing parameters by vote: who may, how far, what counts, and what a minority or a majority cannot do."""

from __future__ import annotations

import pytest

from consensus.runtime.balances.state import HoldReason, read_hold
from consensus.runtime.params import errors
from consensus.runtime.params import state as governance
from consensus.runtime.params.bounds import BOUNDS, FIXED
from consensus.runtime.params.events import ParamChanged, ProposalPassed, ProposalRejected
from consensus.runtime.params.protocol import (
    RuntimeParams,
    apply_changes,
    get_param,
    list_names,
    read_runtime_params,
)
from consensus.runtime.system import state as system
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.codec import decode, encode
from proto_specs.types import calls
from proto_specs.types.calls import ParamChange
from tests.unit.consensus.runtime.chain import Chain

ALICE, BOB, CHARLIE, DAVE, EVE = (get_dev_identity(one) for one in ("alice", "bob", "charlie", "dave", "eve"))
NAME = "system.fee_base"
CHANGE = calls.ProposeParams((ParamChange(NAME, 12_345),))


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    return Chain(build_dev_spec(("alice", "bob", "charlie", "dave")))


def test_every_parameter_has_a_bound_that_fits_its_type(chain: Chain) -> None:
    params = read_runtime_params(chain.state)
    names = list_names(params)
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
