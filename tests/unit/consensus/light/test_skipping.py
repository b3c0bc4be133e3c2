"""Whole ways of a light client: how many blocks they take, over changing sets, and with sources that fail or lie."""

from __future__ import annotations

import pytest

from consensus.light.errors import HandoverUnproven, HeightMissing, LightBlockInvalid, TrustExpired
from consensus.light.skipping import AskHandover, Skipping
from consensus.light.verify import make_trusted
from proto_specs.types.gossip import LightBlock
from tests.unit.consensus.light.chain import PARAMS, PERIOD_MS, Chain, follow, forge, go_on, make_set

FOUR = make_set({1: 10, 2: 10, 3: 10, 4: 10})
OTHERS = make_set({11: 10, 12: 10, 13: 10, 14: 10})


def make_rotating(count: int) -> Chain:
    """Every ten blocks one of four validators is replaced."""
    return Chain([make_set({height // 10 + place: 10 for place in range(4)}) for height in range(count)])


def test_a_set_that_stays_takes_one_block() -> None:
    chain = Chain([FOUR] * 100)
    way = follow(chain, chain.genesis(), 100, chain.now_ms)
    assert [one.block.header.height for one in way.steps] == [100]
    assert way.trusted == make_trusted(chain.blocks[99])


def test_a_changing_set_takes_few_blocks_and_no_handover() -> None:
    chain = make_rotating(200)
    way = follow(chain, chain.genesis(), 200, chain.now_ms)
    heights = [one.block.header.height for one in way.steps]
    assert heights == sorted(heights)
    assert heights[-1] == 200
    assert len(heights) < 25


def test_a_set_replaced_at_once_takes_a_handover() -> None:
    chain = Chain([FOUR] * 13 + [OTHERS] * 20)
    way = follow(chain, chain.genesis(), 33, chain.now_ms)
    assert {13, 14} <= {one.block.header.height for one in way.steps}
    assert way.trusted.block_hash == make_trusted(chain.blocks[32]).block_hash


def test_a_source_without_the_state_cannot_hand_over() -> None:
    chain = Chain([FOUR, OTHERS])
    way = Skipping(make_trusted(chain.blocks[0]), 2, PARAMS)
    way.take_block(chain.block(2), chain.now_ms)
    assert way.ask == AskHandover(1)
    with pytest.raises(HandoverUnproven, match="archive node"):
        way.take_handover(None, chain.now_ms)


def test_a_source_without_the_block_is_no_proof_of_anything() -> None:
    chain = Chain([FOUR] * 3)
    way = Skipping(chain.genesis(), 9, PARAMS)
    with pytest.raises(HeightMissing):
        way.take_block(chain.block(9), chain.now_ms)


def test_a_block_of_another_height_is_not_taken() -> None:
    chain = Chain([FOUR] * 9)
    way = Skipping(chain.genesis(), 9, PARAMS)
    with pytest.raises(LightBlockInvalid, match="served for block 9"):
        way.take_block(chain.block(8), chain.now_ms)


def test_forged_sets_lead_nowhere() -> None:
    """The liar answers every height with blocks of a set of its own: bisection ends at the trusted block's child."""
    honest = Chain([FOUR] * 64)

    class Liar(Chain):
        def block(self, height: int) -> LightBlock | None:
            return forge(height, OTHERS)

    liar = Liar([FOUR])
    with pytest.raises(LightBlockInvalid, match="another parent"):
        follow(liar, make_trusted(honest.blocks[0]), 64, honest.now_ms)


def test_a_fork_by_old_validators_is_refused_once_trust_has_expired() -> None:
    honest = make_rotating(60)
    start, late_ms = honest.genesis(), honest.genesis().time_ms + PERIOD_MS
    fork = Chain([honest.sets[0]] * 60)
    assert follow(fork, start, 60, honest.now_ms).trusted.height == 60, "they had the keys, and could"
    with pytest.raises(TrustExpired):
        follow(fork, start, 60, late_ms)


def test_what_was_verified_before_a_lie_stays_verified() -> None:
    chain = Chain([FOUR] * 13 + [OTHERS] * 20)
    way = Skipping(chain.genesis(), 33, PARAMS)
    with pytest.raises(HandoverUnproven):
        go_on(way, chain, chain.now_ms, keeps_states=False)
    assert way.trusted == make_trusted(chain.blocks[12])
