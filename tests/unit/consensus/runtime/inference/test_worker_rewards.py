"""Who delegates to a worker's operator shares in what its audits mint, by F1; nobody who came in this epoch does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.runtime.balances.state import read_issuance
from consensus.runtime.context import Environment
from consensus.runtime.inference.worker_rewards import mint_for_worker
from consensus.runtime.staking import state as staking
from consensus.state.overlay import Overlay
from proto_specs.types import calls
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking.staking_world import (
    ALICE,
    EVE,
    FERDIE,
    MYL,
    build_spec,
    check_pools,
    pending,
    to_epoch_end,
)

BOND = 100 * MYL
REWARD = 7 * MYL + 3


@pytest.fixture(name="chain")
def fixture_chain() -> Chain:
    spec = build_spec()
    silent = replace(spec.params.staking, emission_per_epoch=0)
    return Chain(replace(spec, params=replace(spec.params, staking=silent)))


def mint(chain: Chain, amount: int = REWARD) -> int:
    """As an audit that was passed does it."""
    overlay = Overlay(chain.state)
    minted = mint_for_worker(Environment(overlay, chain.context()), ALICE.account, BOND, amount)
    chain.state.apply(overlay.changes())
    return minted


def test_without_delegations_all_is_the_operators(chain: Chain) -> None:
    free, issued = chain.free(ALICE), read_issuance(chain.state)
    assert mint(chain) == REWARD
    assert chain.free(ALICE) - free == REWARD == read_issuance(chain.state) - issued


def test_delegators_share_by_their_stake_beside_stake_and_bond(chain: Chain) -> None:
    own = staking.read_stake(chain.state, ALICE.account).bonded + BOND
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, own))
    to_epoch_end(chain)
    chain.expect_ok(FERDIE, calls.Delegate(ALICE.account, own))
    free, issued = chain.free(ALICE), read_issuance(chain.state)
    assert mint(chain) == REWARD == read_issuance(chain.state) - issued
    assert pending(chain, FERDIE) == 0, "who comes in this epoch takes nothing, and moves nothing to others"
    assert abs(pending(chain, EVE) - REWARD // 2) <= 1
    assert chain.free(ALICE) - free + pending(chain, EVE) in (REWARD, REWARD - 1)
    check_pools(chain.state)


def test_a_pool_of_newcomers_takes_nothing_from_the_operator(chain: Chain) -> None:
    chain.expect_ok(EVE, calls.Delegate(ALICE.account, 1_000 * MYL))
    free = chain.free(ALICE)
    mint(chain)
    assert chain.free(ALICE) - free == REWARD
    assert pending(chain, EVE) == 0
    check_pools(chain.state)


def test_nothing_is_minted_beyond_the_cap(chain: Chain) -> None:
    assert mint(chain, 2 * chain.spec.params.staking.issuance_max) < chain.spec.params.staking.issuance_max
    assert read_issuance(chain.state) == chain.spec.params.staking.issuance_max
    assert mint(chain) == 0
