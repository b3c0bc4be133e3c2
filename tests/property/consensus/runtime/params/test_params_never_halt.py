"""Whatever passes by vote, and in whatever order: blocks go on being made, money moves, and a vote can undo it.

Changes go through the checks of a proposal and of its enactment; only the wait for votes is left out.
"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.runtime.context import Environment
from consensus.runtime.errors import CallError
from consensus.runtime.params.bounds import BOUNDS, GOVERNANCE_FEE_MAX
from consensus.runtime.params.calls import propose_params
from consensus.runtime.params.protocol import apply_changes, get_param, read_runtime_params, write_runtime_params
from consensus.runtime.staking.state import read_validators
from consensus.state.overlay import Overlay
from proto_specs.limits import PARAM_CHANGES_MAX
from proto_specs.types import calls
from proto_specs.types.calls import ParamChange
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking.staking_world import ALICE, BOB, CHARLIE, EPOCH, EVE, FERDIE, build_spec

NAMES = st.sampled_from(sorted(BOUNDS))


def values_of(name: str) -> st.SearchStrategy[int]:
    """What a vote may set."""
    bound = BOUNDS[name]
    return st.one_of(st.sampled_from([bound.least, bound.most]), st.integers(bound.least, bound.most))


@st.composite
def changes(draw: st.DrawFn) -> tuple[ParamChange, ...]:
    """What one proposal can hold: values at their bounds more often than not."""
    chosen = draw(st.lists(NAMES, min_size=1, max_size=PARAM_CHANGES_MAX, unique=True))
    return tuple(ParamChange(name, draw(values_of(name))) for name in chosen)


def enact(chain: Chain, made: tuple[ParamChange, ...]) -> bool:
    """Whether the runtime accepts the proposal; if so, it has passed."""
    tried = Overlay(chain.state)
    env = Environment(tried, chain.context())
    try:
        propose_params(env, ALICE.account, calls.ProposeParams(made))
    except CallError:
        return False
    before = read_runtime_params(chain.state)
    overlay = Overlay(chain.state)
    write_runtime_params(overlay, before, apply_changes(before, made))
    chain.state.apply(overlay.changes())
    return True


def check_alive(chain: Chain) -> None:
    """An empty block, one in which somebody pays, one in which somebody can afford to vote, and an epoch's end."""
    chain.block()
    for who, call in ((EVE, calls.Transfer(FERDIE.account, 2 * NMYL_PER_MYL)), (BOB, calls.VoteParams(1 << 32, True))):
        receipt = chain.submit(who, call)
        assert receipt.error is None or isinstance(call, calls.VoteParams)
        assert receipt.fee < GOVERNANCE_FEE_MAX
    chain.skip(EPOCH - chain.height % EPOCH)
    assert read_validators(chain.state).members


@settings(max_examples=60, deadline=None)
@given(st.lists(changes(), min_size=1, max_size=4))
def test_no_sequence_of_votes_halts_the_chain(sequence: list[tuple[ParamChange, ...]]) -> None:
    chain = Chain(build_spec())
    chain.skip(EPOCH)
    for made in sequence:
        if enact(chain, made):
            check_alive(chain)


@pytest.mark.parametrize("name", sorted(BOUNDS))
def test_no_parameter_halts_the_chain_at_its_bounds(name: str) -> None:
    for value in (BOUNDS[name].least, BOUNDS[name].most):
        chain = Chain(build_spec())
        chain.block()
        if enact(chain, (ParamChange(name, value),)):
            check_alive(chain)


def test_the_dearest_chain_a_vote_can_make_can_be_voted_back() -> None:
    chain = Chain(build_spec())
    chain.skip(EPOCH)
    dear = {
        "system.block_weight_max": BOUNDS["system.block_weight_max"].least,
        "system.block_bytes_max": BOUNDS["system.block_bytes_max"].least,
        **{name: BOUNDS[name].most for name in ("system.fee_base", "system.byte_price", "system.weight_price_max")},
        "system.weight_price_min": BOUNDS["system.weight_price_min"].most,
        "balances.existential_deposit": BOUNDS["balances.existential_deposit"].most,
        "staking.validator_stake_min": BOUNDS["staking.validator_stake_min"].most,
        "governance.proposal_deposit": BOUNDS["governance.proposal_deposit"].most,
        "governance.voting_blocks": BOUNDS["governance.voting_blocks"].least,
        "governance.approval_permille": BOUNDS["governance.approval_permille"].most,
    }
    before = read_runtime_params(chain.state)
    assert enact(chain, tuple(ParamChange(name, value) for name, value in dear.items()))
    check_alive(chain)
    back = tuple(ParamChange(name, get_param(before, name)) for name in dear)
    assert chain.expect_ok(ALICE, calls.ProposeParams(back)).fee < GOVERNANCE_FEE_MAX
    for who in (ALICE, BOB, CHARLIE):
        chain.expect_ok(who, calls.VoteParams(0, True))
    chain.skip(dear["governance.voting_blocks"])
    assert read_runtime_params(chain.state) == before
    check_alive(chain)
