"""Random chains and liars: an honest source always leads to the chain's block, few liars never to another."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.light.errors import LightError
from consensus.light.skipping import AskBlock, Skipping
from consensus.light.verify import Handover, make_trusted
from proto_specs.types.chain import ValidatorSet
from proto_specs.types.gossip import LightBlock
from tests.unit.consensus.light.chain import NO_PROOF, PARAMS, Chain, follow, forge, list_keys, make_set

LIARS = range(50, 60)
HONEST = range(12)


def powers_of(numbers: range, most: int) -> st.SearchStrategy[dict[int, int]]:
    return st.dictionaries(st.sampled_from(numbers), st.integers(1, 9), min_size=1, max_size=most)


@st.composite
def chains(draw: st.DrawFn) -> Chain:
    """Sets of honest validators and of liars with less than a third of the power, each for a while."""
    sets: list[ValidatorSet] = []
    for _ in range(draw(st.integers(1, 4))):
        honest, liars = draw(powers_of(HONEST, 5)), draw(st.sampled_from(LIARS))
        most = (sum(honest.values()) - 1) // 2  # 3 l < h + l
        powers = honest | ({liars: draw(st.integers(1, most))} if most else {})
        sets += [make_set(powers)] * draw(st.integers(1, 6))
    return Chain(sets)


@settings(max_examples=60, deadline=None)
@given(chains(), st.data())
def test_an_honest_source_leads_to_the_chains_block(chain: Chain, data: st.DataObject) -> None:
    height = data.draw(st.integers(0, len(chain.blocks) - 1))
    start = make_trusted(chain.blocks[height - 1]) if height else chain.genesis()
    target = data.draw(st.integers(height + 1, len(chain.blocks)))
    way = follow(chain, start, target, chain.now_ms)
    assert way.trusted == make_trusted(chain.blocks[target - 1])
    assert all(one.block in chain.blocks for one in way.steps)


def lie(data: st.DataObject, height: int, chain: Chain) -> LightBlock:
    """Signed by liars alone, under a set that they chose or under that of the chain with what they can sign of it."""
    own = make_set(data.draw(powers_of(LIARS, 4)) | data.draw(powers_of(HONEST, 4)))
    validators = data.draw(st.sampled_from([own, *chain.sets]))
    known = [key for key in list_keys(validators) if key in list_keys(make_set(dict.fromkeys(LIARS, 1)))]
    parent = chain.block(height - 1)
    return forge(
        height, validators, known, parent_hash=make_trusted(parent).block_hash if parent is not None else bytes(32)
    )


@settings(max_examples=100, deadline=None)
@given(chains(), st.data())
def test_less_than_a_third_of_liars_leads_nowhere_but_to_the_chain(chain: Chain, data: st.DataObject) -> None:
    way = Skipping(chain.genesis(), data.draw(st.integers(1, len(chain.blocks))), PARAMS)
    try:
        while way.ask is not None:
            height, honest = way.ask.height, data.draw(st.booleans())
            if isinstance(way.ask, AskBlock):
                way.take_block(chain.block(height) if honest else lie(data, height, chain), chain.now_ms)
            else:
                false = Handover(make_set(dict.fromkeys(LIARS, 1)), NO_PROOF)
                way.take_handover(chain.handover(height) if honest else false, chain.now_ms)
    except LightError:
        pass
    assert all(one.block in chain.blocks for one in way.steps)
