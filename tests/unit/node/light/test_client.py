"""A light client between sources: witnesses that agree, lag, lie or prove a fork; ways back; operators' hashes."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.light.attack import AttackKind, classify_attack, list_double_votes
from consensus.light.errors import ForkDetected, HeightMissing, LightBlockInvalid, LightError, TrustMismatch
from consensus.light.verify import Handover, make_trusted
from node.light.client import Confirmed, NobodyConfirms, fetch_trusted, verify_with_witnesses, walk_back
from node.light.errors import SourceLost
from proto_specs.types.chain import compute_block_hash
from proto_specs.types.gossip import LightBlock
from tests.unit.consensus.light.chain import GENESIS, PARAMS, Chain, forge, make_set

FOUR = make_set({1: 10, 2: 10, 3: 10, 4: 10})
OTHERS = make_set({11: 10, 12: 10, 13: 10, 14: 10})


class Source:
    """A full node of a chain in memory."""

    def __init__(self, name: str, chain: Chain) -> None:
        self.name = name
        self.chain = chain
        self.asked: list[int] = []

    async def get_block(self, height: int) -> LightBlock | None:
        self.asked.append(height)
        return self.chain.block(height or len(self.chain.blocks))

    async def get_handover(self, height: int) -> Handover | None:
        return self.chain.handover(height)


class Gone(Source):
    """It does not answer."""

    async def get_block(self, height: int) -> LightBlock | None:
        raise SourceLost(f"{self.name}: gone")


class Forger(Source):
    """Every block is forged, by a set of its own."""

    async def get_block(self, height: int) -> LightBlock | None:
        return forge(height, OTHERS)


def make_rotating(count: int) -> Chain:
    """Every ten blocks one of four validators is replaced."""
    return Chain([make_set({height // 10 + place: 10 for place in range(4)}) for height in range(count)])


CHAIN = make_rotating(100)


async def verify(source: Source, *witnesses: Source, height: int = 100) -> Confirmed:
    return await verify_with_witnesses(CHAIN.genesis(), height, source, witnesses, PARAMS, lambda: CHAIN.now_ms)


async def test_a_witness_is_asked_for_one_block_when_it_agrees() -> None:
    witness = Source("w", CHAIN)
    found = await verify(Source("s", CHAIN), witness)
    assert found.block == CHAIN.blocks[99]
    assert found.agreeing == ("w",)
    assert witness.asked == [100]


async def test_witnesses_that_are_gone_behind_or_forging_are_dropped() -> None:
    others = [Gone("gone", CHAIN), Source("behind", make_rotating(50)), Forger("forger", CHAIN)]
    found = await verify(Source("s", CHAIN), *others, Source("good", CHAIN))
    assert found.agreeing == ("good",)
    assert [one.split(":")[0] for one in found.dropped] == ["gone", "behind", "forger"]
    with pytest.raises(NobodyConfirms, match=r"gone.*behind"):
        await verify(Source("s", CHAIN), *others)


@pytest.mark.parametrize("common", [0, 1, 37, 90, 99])
async def test_a_fork_is_proven_by_the_first_blocks_that_differ(common: int) -> None:
    """The validators of the whole chain lie to one of two: whichever is the witness, the client stops with evidence."""
    other = Chain(CHAIN.sets[common:], Chain(CHAIN.sets[:common]))
    for source, witness in ((CHAIN, other), (other, CHAIN)):
        with pytest.raises(ForkDetected) as caught:
            await verify(Source("s", source), Source("w", witness))
        attack = caught.value.attack
        assert attack.common_height <= common
        assert attack.first.header.height == attack.second.header.height > attack.common_height
        shared = CHAIN.block(attack.common_height)
        expected = GENESIS if shared is None else compute_block_hash(shared.header)
        assert attack.common_hash == expected
        assert {attack.first, attack.second} <= {*CHAIN.blocks, *other.blocks}
        assert classify_attack(attack) is AttackKind.EQUIVOCATION
        assert len(list_double_votes(attack)) == 4


async def test_a_witness_with_two_answers_is_no_fork() -> None:
    class Twofaced(Source):
        async def get_block(self, height: int) -> LightBlock | None:
            found = await super().get_block(height)
            return forge(height, FOUR) if self.asked.count(height) == 1 else found

    found = await verify(Source("s", CHAIN), Twofaced("two", CHAIN), Source("good", CHAIN))
    assert found.agreeing == ("good",)


async def test_the_way_back_is_checked_block_by_block() -> None:
    top = make_trusted(CHAIN.blocks[49])
    assert await walk_back(top, 30, Source("s", CHAIN), PARAMS) == CHAIN.blocks[29]
    assert await walk_back(top, 50, Source("s", CHAIN), PARAMS) == CHAIN.blocks[49]
    with pytest.raises(TrustMismatch, match="not the one that is trusted"):
        await walk_back(top, 30, Forger("s", CHAIN), PARAMS)

    class Halfway(Source):
        async def get_block(self, height: int) -> LightBlock | None:
            return self.chain.block(height) if height > 40 else forge(height, FOUR)

    with pytest.raises(LightBlockInvalid, match="40 is not the parent"):
        await walk_back(top, 30, Halfway("s", CHAIN), PARAMS)
    with pytest.raises(HeightMissing):
        await walk_back(top, 30, Source("s", Chain([FOUR])), PARAMS)
    far = dataclasses.replace(top, height=200_000)
    with pytest.raises(LightError, match="nearer"):
        await walk_back(far, 1, Source("s", CHAIN), PARAMS)


async def test_an_operators_hash_is_not_taken_for_another_block() -> None:
    block = CHAIN.blocks[49]
    found = await fetch_trusted(50, compute_block_hash(block.header), Source("s", CHAIN), GENESIS)
    assert found == make_trusted(block)
    with pytest.raises(TrustMismatch, match="not the one you trust"):
        await fetch_trusted(50, bytes(32), Source("s", CHAIN), GENESIS)
    with pytest.raises(HeightMissing):
        await fetch_trusted(500, bytes(32), Source("s", CHAIN), GENESIS)
    with pytest.raises(LightBlockInvalid, match="bad precommit"):
        await fetch_trusted(50, compute_block_hash(block.header), Source("s", CHAIN), bytes(32))
