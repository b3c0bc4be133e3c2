"""Turns to propose: who had one, who took it, what a missed one costs, and when it is jailed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.bft.proposer import ProposerRotation
from consensus.runtime.executive import execute_block
from consensus.runtime.receipts import ExecutedBlock
from consensus.runtime.staking import state as staking
from consensus.runtime.staking import turns
from consensus.runtime.staking.emission import compute_turn_rewards
from consensus.runtime.staking.events import ValidatorDeclined, ValidatorJailed, ValidatorRewarded
from genesis.dev import build_dev_spec, get_dev_identity
from proto_specs.types import calls
from proto_specs.types.common import NMYL_PER_MYL
from tests.unit.consensus.runtime.chain import Chain, check_invariants

NAMES = ("alice", "bob", "charlie", "dave")


def build_chain(**params: int) -> Chain:
    spec = build_dev_spec(NAMES)
    return Chain(replace(spec, params=replace(spec.params, staking=replace(spec.params.staking, **params))))


def make_block(chain: Chain, declining: frozenset[bytes] = frozenset()) -> ExecutedBlock:
    """The next block by the first in its rotation that does not decline."""
    rotation = turns.read_rotation(chain.state)
    proposer = next(key for key in rotation.list_proposers(64) if key not in declining)
    executed = execute_block(chain.state, replace(chain.context(), proposer=proposer), (), ())
    chain.state.apply(executed.changes)
    chain.height += 1
    check_invariants(chain.state)
    return executed


def run_epoch(chain: Chain, *declining: str) -> list[Any]:
    """Blocks to the end of an epoch; the events at its end."""
    keys = frozenset(get_dev_identity(name).consensus_key.public_key for name in declining)
    blocks = chain.spec.params.staking.epoch_blocks
    events: list[Any] = []
    for _ in range(blocks - chain.height % blocks):
        events = list(make_block(chain, keys).events.finalize)
    return events


def pick(events: list[Any], kind: type) -> list[Any]:
    return [one for one in events if isinstance(one, kind)]


def test_a_block_by_another_is_a_turn_missed() -> None:
    chain = build_chain()
    rotation = turns.read_rotation(chain.state)
    first, second = list(rotation.list_proposers(2))
    keys = [member.key for member in rotation.validators.members]
    make_block(chain, frozenset((first,)))
    found = staking.proposals.read(chain.state)
    assert (found.blocks, sum(found.turns), sum(found.made)) == (1, 1, 0)
    assert found.turns[keys.index(first)] == 1
    assert found.turns[keys.index(second)] == 0, "a round that is not the first is no turn that pays"
    assert staking.count_recent_skips(chain.state) == 1
    make_block(chain)
    assert staking.count_recent_skips(chain.state) == 1
    make_block(chain)
    assert staking.count_recent_skips(chain.state) == 0
    found = staking.proposals.read(chain.state)
    assert (found.blocks, sum(found.turns), sum(found.made)) == (3, 3, 2)


def test_every_round_before_the_makers_own_was_missed() -> None:
    chain = build_chain()
    rotation = turns.read_rotation(chain.state)
    order = list(rotation.list_proposers(4))
    assert turns.list_skipped(rotation, order[3]) == order[:3]
    assert turns.list_skipped(rotation, order[0]) == []
    assert len(turns.list_skipped(rotation, bytes(32))) == turns.SKIPPED_MAX


def test_a_missed_turn_is_not_paid_and_nobody_gains_by_it() -> None:
    honest, declined = build_chain(epoch_blocks=20), build_chain(epoch_blocks=20)
    paid = {one.operator: one.amount for one in pick(run_epoch(honest), ValidatorRewarded)}
    bob = get_dev_identity("bob")
    key = frozenset((bob.consensus_key.public_key,))
    while turns.read_rotation(declined.state).get_proposer() not in key:
        make_block(declined)
    make_block(declined, key)
    less = {one.operator: one.amount for one in pick(run_epoch(declined), ValidatorRewarded)}
    assert all(less[who] == paid[who] for who in paid if who != bob.account)
    producers = honest.spec.params.staking.emission_per_epoch // 2
    assert paid[bob.account] - less[bob.account] == producers * 200 // 1_000 // 20


def test_who_declines_most_of_its_turns_is_jailed() -> None:
    chain = build_chain(epoch_blocks=40)
    events = run_epoch(chain, "bob")
    (jailed,) = pick(events, ValidatorDeclined)
    bob = get_dev_identity("bob")
    assert (jailed.operator, jailed.made) == (bob.account, 0)
    assert jailed.turns == 10
    assert jailed.amount > 0
    assert not pick(events, ValidatorJailed)
    assert staking.jailed.read(chain.state, bob.account) == jailed.until
    assert bob.account not in {one.operator for one in staking.read_validators(chain.state).members}
    assert not pick(run_epoch(chain), ValidatorDeclined)


def test_a_few_missed_turns_are_forgiven() -> None:
    chain = build_chain(epoch_blocks=40, declines_max=10)
    assert not pick(run_epoch(chain, "bob"), ValidatorDeclined)


def test_when_too_many_turns_were_missed_nobody_is_to_blame() -> None:
    """A slow network, or more than a third of the power: then jails would hit whoever is left."""
    chain = build_chain(epoch_blocks=40)
    assert not pick(run_epoch(chain, "bob", "charlie"), ValidatorDeclined)


def test_shares_of_turns_are_exact() -> None:
    assert compute_turn_rewards(1_000, [3, 2, 0], 10) == [300, 200, 0]
    assert compute_turn_rewards(1_000, [0], 0) == [0]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1_000, 90_000)), max_size=4), st.integers(0, 3))
def test_the_rotation_in_the_state_is_that_of_the_rules(moves: list[tuple[int, int]], seed: int) -> None:
    """However stakes move and whoever declines: one step a height, and the change of a set after its last height."""
    chain = build_chain(epoch_blocks=5, unbonding_blocks=200)
    expected = ProposerRotation.start(staking.read_validators(chain.state))
    for number, (index, amount) in enumerate(moves):
        chain.expect_ok(get_dev_identity(NAMES[index]), calls.Bond(amount * NMYL_PER_MYL))
        expected = follow(expected, chain)
        for _ in range(7):
            declining = list(expected.list_proposers(1)) if (number + seed) % 3 == 0 else []
            make_block(chain, frozenset(declining))
            expected = follow(expected, chain)


def follow(rotation: ProposerRotation, chain: Chain) -> ProposerRotation:
    after, validators = rotation.advance(), staking.read_validators(chain.state)
    if validators != rotation.validators:
        after = after.with_validators(validators)
    assert turns.read_rotation(chain.state) == after
    return after
