"""Catching up from several peers: honest ones suffice, whatever the others serve; a liar costs only itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genesis.builder import Genesis
from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.replica import block_sync
from node.replica.block_sync import RANGE_BLOCKS_FIRST, REQUESTS_MAX, BlockSync
from node.replica.exchange import serve_blocks
from node.replica.tip import ChainTip
from node.replica.world import Request, Response
from node.store.chain_store import ChainStore
from proto_specs.codec import encode
from proto_specs.hashing import Tag
from proto_specs.types.chain import Commit, CommitSignature, VoteKind, compute_block_hash, compute_vote_bytes
from proto_specs.types.gossip import BlocksRequest, BlocksResponse, FinalBlock
from tests.unit.node.replica.scripted import Peer, ScriptedWorld
from tests.unit.node.world import BOB, World, make_genesis, make_transfer

BLOCKS = 60
TRANSFERS = (make_transfer(make_genesis().hash, BOB, 0),)


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


def forge_later_epoch(genesis: Genesis, blocks: tuple[FinalBlock, ...]) -> tuple[FinalBlock, ...]:
    """Blocks that hang together, decided by a set of the forger's own: nobody can tell before their turn."""
    forged: list[FinalBlock] = []
    key = BOB.consensus_key
    for one in blocks:
        header = replace(one.block.header, validators_hash=bytes(31) + b"x", state_root=bytes(32))
        if forged:
            header = replace(header, parent_hash=forged[-1].commit.block_hash)
        block_hash = compute_block_hash(header)
        payload = compute_vote_bytes(genesis.hash, VoteKind.PRECOMMIT, header.height, 0, block_hash)
        signed = CommitSignature(key.public_key, key.sign(Tag.VOTE_SIGN, payload))
        forged.append(FinalBlock(replace(one.block, header=header), Commit(header.height, 0, block_hash, (signed,))))
    return tuple(forged)


def swap_bodies(_genesis: Genesis, blocks: tuple[FinalBlock, ...]) -> tuple[FinalBlock, ...]:
    """Every header and commit is right; a body is not the header's."""
    last = blocks[-1]
    body = last.block.transactions[1:] if last.block.transactions else TRANSFERS
    return (*blocks[:-1], replace(last, block=replace(last.block, transactions=body)))


def swap_last_commit(_genesis: Genesis, blocks: tuple[FinalBlock, ...]) -> tuple[FinalBlock, ...]:
    return (*blocks[:-1], replace(blocks[-1], block=replace(blocks[-1].block, last_commit=blocks[-1].commit)))


def repeat_signature(_genesis: Genesis, blocks: tuple[FinalBlock, ...]) -> tuple[FinalBlock, ...]:
    return tuple(replace(one, commit=replace(one.commit, signatures=one.commit.signatures * 2)) for one in blocks)


def serve_nothing(_request: Request) -> Response:
    return BlocksResponse(10**9, ())


LIES = (
    swap_last_body,
    forge_first_state,
    drop_signatures,
    reverse,
    forge_later_epoch,
    swap_bodies,
    swap_last_commit,
    repeat_signature,
)


def catch_up(
    chain: World,
    directory: Path,
    world: ScriptedWorld,
    heads: dict[str, int],
    watch: Callable[[BlockSync], None] = lambda _sync: None,
) -> tuple[int, bool]:
    """How far a new node gets, and whether it ended by itself."""
    store = ChainStore(directory, chain.genesis)
    world.now_ms = BLOCKS * 1_000 + 10_000
    try:
        tip = ChainTip(store, TransactionPool(store, Mempool()), world, lambda _done: None)
        ended: list[bool] = []

        def apply(final: FinalBlock, then: Callable[[], None]) -> None:
            watch(sync)

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
        assert len(ended) <= 1
        return height, bool(ended)
    finally:
        store.close()


def test_ranges_are_asked_of_all_at_once_and_applied_in_order(chain: World, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    world = ScriptedWorld({name: serve(chain.store) for name in names}, {"one": 500, "two": 10, "three": 100})
    assert catch_up(chain, tmp_path / "db", world, dict.fromkeys(names, BLOCKS)) == (BLOCKS, True)
    assert {peer for peer, _ in world.asked} == set(names)
    assert world.asked[0][1] == BlocksRequest(1, RANGE_BLOCKS_FIRST)
    assert max(one.count for _, one in world.asked if isinstance(one, BlocksRequest)) > RANGE_BLOCKS_FIRST
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


def test_forged_blocks_above_a_hole_do_not_hold_a_node(chain: World, tmp_path: Path) -> None:
    """Two liars: one refuses the next block, the other has served what could only be checked after it."""
    store = World(tmp_path / "longer")
    for _ in range(80):
        store.add_block()
    forging = spoil(store.store, forge_later_epoch)

    def answer(request: Request) -> Response:
        assert isinstance(request, BlocksRequest)
        return forging(request) if request.start > 4 else BlocksResponse(80, ())  # type: ignore[return-value]

    world = ScriptedWorld({"one": answer, "two": answer}, {"one": 100, "two": 1})
    assert catch_up(chain, tmp_path / "db", world, {"one": 80, "two": 80}) == (0, True)
    store.store.close()


def test_who_claimed_what_it_has_not_is_believed_no_more_for_a_while(chain: World, tmp_path: Path) -> None:
    store = ChainStore(tmp_path / "db", chain.genesis)
    world = ScriptedWorld({"boaster": serve_nothing})
    sync = BlockSync(store.genesis_hash, world, store.get_head, lambda _final, _then: None, lambda: None)
    asked_at = []
    for now_ms in range(0, 60_000, 250):
        sync.learn_head("boaster", 10**9)
        asked_at += [now_ms] * (len(world.asked) - len(asked_at))
        world.run(until_ms=now_ms)
        assert not world.penalties, "it may have pruned them"
    store.close()
    gaps = [after - before for before, after in itertools.pairwise(asked_at)]
    assert gaps == sorted(gaps)
    assert 3 <= len(asked_at) <= 5


def test_nobody_serves_the_next_block_and_the_log_says_what_to_do(
    chain: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = ScriptedWorld({"pruned": serve_nothing})
    assert catch_up(chain, tmp_path / "db", world, {"pruned": BLOCKS}) == (0, True)
    assert "join by a snapshot" in caplog.text


def test_the_block_that_all_wait_for_is_asked_of_a_second_peer(chain: World, tmp_path: Path) -> None:
    honest = serve(chain.store)
    world = ScriptedWorld({"slow": honest, "quick": honest}, {"slow": 4_900, "quick": 10})
    assert catch_up(chain, tmp_path / "db", world, {"slow": BLOCKS, "quick": BLOCKS}) == (BLOCKS, True)
    assert world.now_ms - (BLOCKS * 1_000 + 10_000) < 10_000
    assert [peer for peer, _ in world.asked].count("slow") <= 2
    assert not world.penalties


def test_a_peer_that_vanishes_costs_one_timeout(chain: World, tmp_path: Path) -> None:
    honest = serve(chain.store)
    world = ScriptedWorld({"honest": honest})

    def vanish(_request: Request) -> Response | None:
        world.peers.pop("vanishing", None)
        return None

    world.peers["vanishing"] = vanish
    assert catch_up(chain, tmp_path / "db", world, {"vanishing": BLOCKS, "honest": BLOCKS}) == (BLOCKS, True)


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


def test_blocks_that_wait_are_bounded(chain: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first range takes long; of the rest no more is fetched than may wait."""
    monkeypatch.setattr(block_sync, "WAITING_BYTES_MAX", 4_000)
    honest = serve(chain.store)
    world = ScriptedWorld({str(number): honest for number in range(20)}, dict.fromkeys(map(str, range(20)), 900))
    answers: list[int] = []

    def watch(sync: BlockSync) -> None:
        answers.append(sync.waiting_bytes)

    assert catch_up(chain, tmp_path / "db", world, dict.fromkeys(world.peers, BLOCKS), watch) == (BLOCKS, True)
    response_bytes = RANGE_BLOCKS_FIRST * max(
        len(encode(one)) for one in serve_blocks(BlocksRequest(1, 64), chain.store).blocks
    )
    assert 4_000 < max(answers) <= 4_000 + REQUESTS_MAX * 2 * response_bytes, "the bound was reached, and held"
    in_flight = [len({peer for peer, _ in world.asked[:REQUESTS_MAX]})]
    assert in_flight == [REQUESTS_MAX]


def test_what_was_pruned_is_not_served(chain: World) -> None:
    assert serve_blocks(BlocksRequest(BLOCKS + 1, 5), chain.store) == BlocksResponse(BLOCKS, ())
    assert len(serve_blocks(BlocksRequest(0, 5), chain.store).blocks) == 4
    assert len(serve_blocks(BlocksRequest(1, 10**6), chain.store).blocks) == BLOCKS
