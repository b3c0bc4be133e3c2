"""Catching up from several peers: honest ones suffice, whatever the others serve; a liar costs only itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genesis.builder import Genesis
from node.chain.pool import TransactionPool
from node.mempool import Mempool
from node.replica.block_sync import RANGE_BLOCKS, RANGES_MAX, BlockSync
from node.replica.exchange import serve_blocks
from node.replica.tip import ChainTip
from node.replica.world import Request, Response
from node.store.chain_store import ChainStore
from proto_specs.limits import BLOCKS_RESPONSE_MAX
from proto_specs.types.chain import compute_block_hash
from proto_specs.types.gossip import BlocksRequest, BlocksResponse, FinalBlock
from tests.unit.node.replica.scripted import Peer, ScriptedWorld
from tests.unit.node.world import World, make_genesis

BLOCKS = 60


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Alice's chain of 60 blocks, of which some hold transfers."""
    world = World(tmp_path_factory.mktemp("chain") / "db")
    for height in range(1, BLOCKS + 1):
        world.add_block([world.transfer(height // 3 - 1)] if height % 3 == 0 else [])
    yield world
    world.store.close()


def serve(store: ChainStore) -> Peer:
    """An honest peer."""

    def answer(request: Request) -> Response:
        assert isinstance(request, BlocksRequest)
        return serve_blocks(request, store)

    return answer


def spoil(store: ChainStore, change: Callable[[Genesis, tuple[FinalBlock, ...]], tuple[FinalBlock, ...]]) -> Peer:
    """A peer that serves something else than it has."""

    def answer(request: Request) -> Response:
        assert isinstance(request, BlocksRequest)
        honest = serve_blocks(request, store)
        return replace(honest, blocks=change(make_genesis(), honest.blocks)) if honest.blocks else honest

    return answer


def swap_last_body(_genesis: Genesis, blocks: tuple[FinalBlock, ...]) -> tuple[FinalBlock, ...]:
    header = replace(blocks[-1].block.header, body_root=bytes(32 - 1) + b"x")
    return (*blocks[:-1], replace(blocks[-1], block=replace(blocks[-1].block, header=header)))


def forge_first_state(genesis: Genesis, blocks: tuple[FinalBlock, ...]) -> tuple[FinalBlock, ...]:
    """A block of its own making, with a commit that nobody signed."""
    header = replace(blocks[0].block.header, state_root=bytes(32))
    commit = replace(blocks[0].commit, block_hash=compute_block_hash(header))
    return (FinalBlock(replace(blocks[0].block, header=header), commit), *blocks[1:])


def drop_signatures(_genesis: Genesis, blocks: tuple[FinalBlock, ...]) -> tuple[FinalBlock, ...]:
    return tuple(replace(one, commit=replace(one.commit, signatures=())) for one in blocks)


def reverse(_genesis: Genesis, blocks: tuple[FinalBlock, ...]) -> tuple[FinalBlock, ...]:
    return blocks[::-1]


def skip_first(_genesis: Genesis, blocks: tuple[FinalBlock, ...]) -> tuple[FinalBlock, ...]:
    return blocks[1:] or blocks


def serve_nothing(_request: Request) -> Response:
    return BlocksResponse(10**9, ())


LIES = (swap_last_body, forge_first_state, drop_signatures, reverse)


def catch_up(chain: World, directory: Path, world: ScriptedWorld, heads: dict[str, int]) -> tuple[int, bool]:
    """How far a new node gets, and whether it ended by itself."""
    store = ChainStore(directory, chain.genesis)
    world.now_ms = BLOCKS * 1_000 + 10_000
    try:
        tip = ChainTip(store, TransactionPool(store, Mempool()), world, lambda _done: None)
        ended: list[bool] = []

        def apply(final: FinalBlock, then: Callable[[], None]) -> None:
            def done(reason: str | None) -> None:
                assert reason is None, "its commit was checked"
                then()

            tip.finalize(final.block, final.commit, done)

        sync = BlockSync(store.genesis_hash, world, store.get_head, apply, lambda: ended.append(True))
        for peer, head in heads.items():
            sync.learn_head(peer, head)
        world.run()
        assert not sync.is_running
        height = store.get_head().height
        assert store.get_block_hash(height) == chain.store.get_block_hash(height)
        return height, bool(ended)
    finally:
        store.close()


def test_ranges_are_asked_of_all_at_once_and_applied_in_order(chain: World, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    world = ScriptedWorld({name: serve(chain.store) for name in names}, {"one": 500, "two": 10, "three": 100})
    assert catch_up(chain, tmp_path / "db", world, dict.fromkeys(names, BLOCKS)) == (BLOCKS, True)
    assert {peer for peer, _ in world.asked} == set(names)
    assert len(world.asked) <= -(-BLOCKS // RANGE_BLOCKS) + 1
    assert not world.penalties


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: str(lie.__name__))
def test_who_serves_false_blocks_is_penalised_and_costs_only_itself(
    chain: World, tmp_path: Path, lie: Callable[[Genesis, tuple[FinalBlock, ...]], tuple[FinalBlock, ...]]
) -> None:
    world = ScriptedWorld({"liar": spoil(chain.store, lie), "honest": serve(chain.store)}, {"liar": 1})
    assert catch_up(chain, tmp_path / "db", world, {"liar": BLOCKS, "honest": BLOCKS}) == (BLOCKS, True)
    assert {peer for peer, _ in world.penalties} == {"liar"}


def test_a_false_claim_holds_nobody_up(chain: World, tmp_path: Path) -> None:
    world = ScriptedWorld({"boaster": serve_nothing, "honest": serve(chain.store)})
    assert catch_up(chain, tmp_path / "db", world, {"boaster": 10**9, "honest": BLOCKS}) == (BLOCKS, True)
    world = ScriptedWorld({"boaster": serve_nothing})
    assert catch_up(chain, tmp_path / "other", world, {"boaster": 10**9}) == (0, True)
    assert len(world.asked) == 1


def test_a_silent_peer_is_waited_for_once(chain: World, tmp_path: Path) -> None:
    world = ScriptedWorld({"silent": lambda _request: None, "honest": serve(chain.store)})
    assert catch_up(chain, tmp_path / "db", world, {"silent": BLOCKS, "honest": BLOCKS}) == (BLOCKS, True)
    assert [peer for peer, _ in world.asked].count("silent") == 1


@settings(max_examples=8)
@given(data=st.data())
def test_one_honest_peer_is_enough_among_any_others(
    chain: World, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    others = data.draw(st.lists(st.sampled_from([*LIES, skip_first, None]), max_size=4))
    peers: dict[str, Peer] = {"honest": serve(chain.store)}
    for number, lie in enumerate(others):
        peers[str(number)] = serve_nothing if lie is None else spoil(chain.store, lie)
    delays = {name: data.draw(st.integers(1, 300)) for name in peers}
    world = ScriptedWorld(peers, delays, seed=data.draw(st.integers(0, 99)))
    heads = {name: data.draw(st.integers(1, 2 * BLOCKS)) for name in peers} | {"honest": BLOCKS}
    directory = tmp_path_factory.mktemp("fresh") / "db"
    assert catch_up(chain, directory, world, heads) == (BLOCKS, True)
    assert "honest" not in {peer for peer, _ in world.penalties}


def test_blocks_that_wait_are_bounded(chain: World, tmp_path: Path) -> None:
    """The first range never comes; the rest is not fetched without end."""
    honest = serve(chain.store)
    world = ScriptedWorld({str(number): honest for number in range(20)}, {"0": 4_000})
    assert catch_up(chain, tmp_path / "db", world, dict.fromkeys(world.peers, BLOCKS)) == (BLOCKS, True)
    assert all(isinstance(one, BlocksRequest) and one.count <= RANGE_BLOCKS for _, one in world.asked)
    assert RANGE_BLOCKS * RANGES_MAX <= 128
    assert RANGE_BLOCKS <= BLOCKS_RESPONSE_MAX


def test_what_was_pruned_is_not_served(chain: World) -> None:
    assert serve_blocks(BlocksRequest(BLOCKS + 1, 5), chain.store) == BlocksResponse(BLOCKS, ())
    assert len(serve_blocks(BlocksRequest(0, 5), chain.store).blocks) == 4
    assert len(serve_blocks(BlocksRequest(1, 10**6), chain.store).blocks) == BLOCKS
