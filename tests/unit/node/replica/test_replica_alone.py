"""A replica alone on a real disk: blocks come, a crash at any write loses and contradicts nothing."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from consensus.bft.evidence import make_duplicate_proposal, make_duplicate_vote
from consensus.runtime.balances import state as balances
from consensus.runtime.staking.state import is_tombstoned
from node.p2p.acceptance import Acceptance
from node.replica.wal import WalDamaged, parse_wal, read_wal
from node.signer.signer import Signer, SignerUnreachable
from node.store.chain_store import ChainStore
from proto_specs.codec import encode
from proto_specs.hashing import Tag
from proto_specs.merkle import compute_proof, compute_root
from proto_specs.types.chain import ProposalHead, ProposalSignBytes, Vote, VoteKind, compute_vote_bytes
from proto_specs.types.gossip import ProposalPart
from tests.unit.node.chain.disk import Crashed, Gossip, Validator, crash_at
from tests.unit.node.replay import replay_chain
from tests.unit.node.world import ALICE, BOB, MYL, make_transfer

WRITES_OF_TWO_BLOCKS = 16
ENDED = (Crashed, BaseExceptionGroup)


@pytest.fixture
def validator(tmp_path: Path) -> Validator:
    return Validator(tmp_path)


@pytest.fixture
def unguarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Alice's node does not mind votes of her key that it did not make: here they are the offence, and she is alone."""
    monkeypatch.setattr(Signer, "has_signed", lambda *_: True)


def check_chain(validator: Validator) -> int:
    """The stored chain is what its blocks lead to. The height."""
    return replay_chain(validator.base / "db", validator.base / "check", validator.genesis)


def check_signed_once(gossip: Gossip) -> None:
    """No two different messages for one slot left the node."""
    slots: dict[tuple[object, ...], object] = {}
    for one in gossip.sent:
        kind = "proposal" if isinstance(one, ProposalHead) else one.kind
        slot = (kind, one.height, one.round)
        assert slots.setdefault(slot, one) == one, f"two messages for {slot}"


async def test_blocks_come_empty_or_not(validator: Validator) -> None:
    transfers = tuple(make_transfer(validator.genesis.hash, ALICE, nonce) for nonce in range(3))
    assert await validator.run(3, transfers) == [1, 2, 3]
    store = ChainStore(validator.base / "db", validator.genesis)
    assert balances.read_account(store, BOB.account).free == 1_000_003 * MYL
    block = store.get_block(2)
    assert block is not None
    assert block.transactions == ()
    store.close()
    assert check_chain(validator) == 3


async def test_it_goes_on_where_it_stopped(validator: Validator) -> None:
    assert await validator.run(2) == [1, 2]
    assert await validator.run(2) == [3, 4]
    check_chain(validator)
    check_signed_once(validator.gossip)


@pytest.mark.parametrize("keeps_unsynced", [False, True])
@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("write", range(1, WRITES_OF_TWO_BLOCKS + 1))
async def test_a_crash_at_any_write_loses_and_contradicts_nothing(
    validator: Validator, write: int, is_done: bool, keeps_unsynced: bool
) -> None:
    transfers = tuple(make_transfer(validator.genesis.hash, ALICE, nonce) for nonce in range(2))
    with crash_at(write, is_done=is_done, keeps_unsynced=keeps_unsynced) as seen, pytest.raises(ENDED) as ended:
        await validator.run(5, transfers)
    assert ended.group_contains(Crashed) or ended.type is Crashed
    assert len(seen) == write, "nothing was written after the crash"
    await validator.run(2)
    assert check_chain(validator) >= 2
    check_signed_once(validator.gossip)


async def test_the_writes_of_a_block_are_those_the_crash_test_covers(validator: Validator) -> None:
    with crash_at(0, is_done=True, keeps_unsynced=True) as seen:
        await validator.run(2)
    assert {"log sync", "log truncation", "signer history", "block"} == set(seen)
    first_two = seen[: [index for index, name in enumerate(seen) if name == "log truncation"][1] + 1]
    assert len(first_two) == WRITES_OF_TWO_BLOCKS


async def test_a_crash_in_every_run_still_makes_progress(validator: Validator) -> None:
    for write in range(2, 14):
        with crash_at(write, is_done=False, keeps_unsynced=True), pytest.raises(ENDED):
            await validator.run(9)
    assert check_chain(validator) >= 5
    check_signed_once(validator.gossip)


async def test_a_hole_in_the_log_stops_the_node_with_its_cure(validator: Validator) -> None:
    with crash_at(6, is_done=True, keeps_unsynced=True), pytest.raises(ENDED):
        await validator.run(2)
    path = validator.base / "consensus.wal"
    data = bytearray(path.read_bytes())
    assert len(read_wal(path)) > 1
    data[10] ^= 1
    path.write_bytes(data)
    with pytest.raises(WalDamaged, match="myelin wal repair"):
        await validator.run(1)


async def test_after_the_log_is_lost_the_signer_still_signs_nothing_else(validator: Validator) -> None:
    """The worst repair: the whole log is gone in mid-height. The round is lost, the next one decides."""
    with crash_at(4, is_done=True, keeps_unsynced=True), pytest.raises(ENDED):
        await validator.run(2)
    (validator.base / "consensus.wal").unlink()
    transfers = (make_transfer(validator.genesis.hash, ALICE, 0),)
    await validator.run(1, transfers)
    check_signed_once(validator.gossip)
    check_chain(validator)


@pytest.mark.usefixtures("unguarded")
async def test_a_late_double_vote_is_in_the_next_block_once(validator: Validator) -> None:
    """The votes come when the height is decided already; alice's key is convicted by her own node."""
    genesis = validator.genesis.hash
    votes = [make_vote(genesis, 1, block_hash) for block_hash in (None, bytes(32))]
    async with validator.start(interval_ms=200) as (replica, store, blocks):
        assert (await blocks.receive()).head.height == 1
        for vote in votes:
            replica.receive("peer", vote)
        evidence = [(await blocks.receive()).block.evidence for _ in range(3)]
        assert evidence == [(make_duplicate_vote(*votes),), (), ()]
        assert is_tombstoned(store, ALICE.consensus_key.public_key)
    check_chain(validator)


@pytest.mark.usefixtures("unguarded")
async def test_messages_of_the_next_height_wait_for_it(validator: Validator) -> None:
    """Were they dropped, height 2 would know of no offence."""
    genesis = validator.genesis.hash
    votes = [make_vote(genesis, 2, block_hash, 0, VoteKind.PRECOMMIT) for block_hash in (None, bytes(32))]
    async with validator.start(interval_ms=100) as (replica, _, blocks):
        assert (await blocks.receive()).head.height == 1
        for vote in votes:
            replica.receive("peer", vote)
        evidence = [one for _ in range(3) for one in (await blocks.receive()).block.evidence]
        assert evidence == [make_duplicate_vote(*votes)]


async def test_a_vote_of_its_key_from_elsewhere_ends_its_signing(
    validator: Validator, caplog: pytest.LogCaptureFixture
) -> None:
    """Two processes with one key: the first to hear of the other signs nothing more, so there is no second vote."""
    async with validator.start(interval_ms=100) as (replica, store, blocks):
        height = (await blocks.receive()).head.height
        own = [one for one in validator.gossip.sent if isinstance(one, Vote)]
        for vote in own:  # what comes back of one's own is nobody else's
            replica.receive("peer", vote)
        assert (await blocks.receive()).head.height == height + 1
        replica.receive("peer", make_vote(validator.genesis.hash, height + 2, bytes(32)))
        validator.gossip.sent.clear()
        with trio.move_on_after(0.5):
            await blocks.receive()
        assert store.get_head().height <= height + 2
        assert [one for one in validator.gossip.sent if one.height > height + 2] == []
    assert caplog.text.count("another process has the key") == 1


async def test_two_proposals_of_a_round_are_in_the_next_block_once(validator: Validator) -> None:
    """One part of each is enough: nobody has to get the whole of either block. A third head goes no further."""
    genesis = validator.genesis.hash
    parts = [make_part(genesis, 2, mark) for mark in (b"1", b"2", b"3")]
    async with validator.start(interval_ms=100) as (replica, store, blocks):
        assert (await blocks.receive()).head.height == 1
        verdicts = [replica.receive("peer", part) for part in (parts[0], parts[0], *parts[1:])]
        assert verdicts == [Acceptance.ACCEPT, Acceptance.ACCEPT, Acceptance.ACCEPT, Acceptance.IGNORE]
        evidence = [one for _ in range(3) for one in (await blocks.receive()).block.evidence]
        assert evidence == [make_duplicate_proposal(parts[0].head, parts[1].head)]
        assert is_tombstoned(store, ALICE.consensus_key.public_key)
    assert validator.gossip.evidence == evidence
    check_chain(validator)


def make_part(genesis: bytes, height: int, mark: bytes, round_: int = 7) -> ProposalPart:
    """The first of two parts of a proposal that alice's node did not make; there is no second."""
    parts = (mark, mark)
    root, key = compute_root(parts), ALICE.consensus_key
    payload = encode(ProposalSignBytes(genesis, height, round_, None, bytes(32), root, 2))
    signature = key.sign(Tag.PROPOSAL_SIGN, payload)
    head = ProposalHead(height, round_, None, bytes(32), root, 2, key.public_key, signature)
    return ProposalPart(head, 0, mark, compute_proof(parts, 0))


def make_vote(
    genesis: bytes, height: int, block_hash: bytes | None, round_: int = 9, kind: VoteKind = VoteKind.PREVOTE
) -> Vote:
    """A vote of alice's that her node did not cast."""
    payload = compute_vote_bytes(genesis, kind, height, round_, block_hash)
    signature = ALICE.consensus_key.sign(Tag.VOTE_SIGN, payload)
    return Vote(kind, height, round_, block_hash, ALICE.consensus_key.public_key, signature)


async def test_blocks_keep_the_interval(validator: Validator) -> None:
    """Not faster; the pace of the chain is a promise to those who count time in blocks."""
    began_s = trio.current_time()
    async with validator.start(interval_ms=60) as (_, _, blocks):
        for _ in range(5):
            await blocks.receive()
    assert trio.current_time() - began_s >= 4 * 0.06


@pytest.mark.parametrize("failing", [(0,), (1,), (2,), (3,), (0, 1, 2, 3, 4)])
async def test_while_its_signer_is_out_of_reach_it_casts_nothing_and_afterwards_goes_on(
    validator: Validator, monkeypatch: pytest.MonkeyPatch, failing: tuple[int, ...]
) -> None:
    """Asked for a proof, a proposal, a prevote, a precommit: whichever of them gets no answer."""
    asked = itertools.count()

    def fail_sometimes(function: Callable[..., Any]) -> Callable[..., Any]:
        def asking(*args: Any) -> Any:
            if next(asked) in failing:
                raise SignerUnreachable("nobody is there")
            return function(*args)

        return asking

    for name in ("sign", "prove_beacon"):
        monkeypatch.setattr(Signer, name, fail_sometimes(getattr(Signer, name)))
    assert await validator.run(2) == [1, 2]
    check_signed_once(validator.gossip)
    check_chain(validator)


async def test_from_any_prefix_of_its_log_it_comes_to_the_same_and_signs_nothing_else(validator: Validator) -> None:
    """A real log cut at every byte reads as its whole records; from every record on the node goes on."""
    with crash_at(7, is_done=True, keeps_unsynced=True), pytest.raises(ENDED):
        await validator.run(2)
    path = validator.base / "consensus.wal"
    data, records = path.read_bytes(), read_wal(path)
    assert len(records) > 2
    ends = list(itertools.accumulate(len(one) + 12 for one in records))
    assert ends[-1] == len(data)
    for size in range(len(data) + 1):
        found, end = parse_wal(data[:size], "log")
        assert found == records[: sum(one <= size for one in ends)]
        assert end == max([0, *(one for one in ends if one <= size)])
    for number, end in enumerate([0, *ends]):
        base = validator.base.parent / f"{validator.base.name}-cut{number}"
        shutil.copytree(validator.base, base)
        (base / "consensus.wal").write_bytes(data[: end + 5])
        again = Validator.__new__(Validator)
        again.base, again.genesis, again.gossip, again.parts = base, validator.genesis, validator.gossip, None
        await again.run(1)
        check_chain(again)
    check_signed_once(validator.gossip)


async def test_the_log_holds_one_height_at_most(validator: Validator) -> None:
    sizes = []
    async with validator.start() as (_, _, blocks):
        for _ in range(8):
            await blocks.receive()
            sizes.append((validator.base / "consensus.wal").stat().st_size)
    assert max(sizes[4:]) <= 2 * max(sizes[:4]) + 1_000, sizes
