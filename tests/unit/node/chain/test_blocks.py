"""Blocks: what is built is valid, and every field of a header and body that is changed makes it invalid."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from consensus.runtime.balances import state as balances
from node.chain.blocks import CLOCK_DRIFT_MS_MAX, BlockInvalid, validate_block
from proto_specs.types.chain import (
    Block,
    Commit,
    compute_block_hash,
    compute_body_root,
    compute_commit_hash,
)
from tests.unit.node.world import ALICE, BOB, MYL, World, make_commit


def validate(world: World, block: Block, now_ms: int = 0) -> Any:
    """Against the head, at the block's own time unless told otherwise."""
    return validate_block(world.store, world.head, block, now_ms or block.header.time_ms, world.pool.is_signed)


def test_what_is_built_is_valid_and_gives_the_same_result(world: World) -> None:
    for nonce in range(3):
        made = world.build([world.transfer(nonce)])
        assert validate(world, made.block) == made
        done = world.finalize(made)
        world.store.commit_block(done)
    assert balances.read_account(world.store, BOB.account).free == 1_000_003 * MYL
    assert world.head.height == 3


def test_a_builder_leaves_out_what_cannot_be_in_the_block(world: World) -> None:
    good, stale, ahead = world.transfer(0), world.transfer(0, amount=2), world.transfer(7)
    made = world.build([ahead, good, stale])
    assert made.block.transactions == (good,)


def test_a_block_is_never_older_than_its_parent(world: World) -> None:
    world.add_block()
    made = world.build(now_ms=1)
    assert made.block.header.time_ms == world.head.time_ms + 1
    validate(world, made.block)


def test_the_first_block_carries_no_commit_and_every_other_its_parents(world: World) -> None:
    assert world.add_block().block.last_commit is None
    second = world.add_block()
    assert second.block.last_commit == world.store.get_commit(1)


HEADER_CHANGES: dict[str, Any] = {
    "height": 7,
    "parent_hash": bytes(32),
    "time_ms": 1,
    "proposer": BOB.consensus_key.public_key,
    "vrf_proof": bytes(80),
    "validators_hash": bytes(32),
    "last_commit_hash": bytes(32),
    "body_root": bytes(32),
    "state_root": bytes(32),
    "receipts_root": bytes(32),
}


@pytest.mark.parametrize("field", list(HEADER_CHANGES))
def test_every_field_of_the_header_is_checked(world: World, field: str) -> None:
    world.add_block()
    made = world.build([world.transfer(0)])
    header = dataclasses.replace(made.block.header, **{field: HEADER_CHANGES[field]})
    with pytest.raises(BlockInvalid):
        validate(world, dataclasses.replace(made.block, header=header), made.block.header.time_ms)


def test_every_field_of_a_header_has_its_case(world: World) -> None:
    assert {one.name for one in dataclasses.fields(world.build().block.header)} == HEADER_CHANGES.keys()


def with_commit(block: Block, change: Callable[[Commit], Commit | None]) -> Block:
    """Another commit of the parent, with the header made to fit."""
    assert block.last_commit is not None
    commit = change(block.last_commit)
    header = dataclasses.replace(block.header, last_commit_hash=compute_commit_hash(commit))
    return dataclasses.replace(block, header=header, last_commit=commit)


@pytest.mark.parametrize(
    "change",
    [
        lambda commit: None,
        lambda commit: dataclasses.replace(commit, signatures=()),
        lambda commit: dataclasses.replace(commit, round=1),
        lambda commit: dataclasses.replace(commit, height=2),
        lambda commit: dataclasses.replace(commit, block_hash=bytes(32)),
        lambda commit: dataclasses.replace(commit, signatures=2 * commit.signatures),
        lambda commit: dataclasses.replace(
            commit, signatures=(dataclasses.replace(commit.signatures[0], signature=bytes(64)),)
        ),
        lambda commit: dataclasses.replace(
            commit, signatures=(dataclasses.replace(commit.signatures[0], validator=BOB.consensus_key.public_key),)
        ),
    ],
)
def test_a_commit_that_does_not_prove_the_parent_is_refused(
    world: World, change: Callable[[Commit], Commit | None]
) -> None:
    world.add_block()
    made = world.build()
    with pytest.raises(BlockInvalid):
        validate(world, with_commit(made.block, change))


def test_another_valid_commit_of_the_parent_is_as_good_as_ours(world: World) -> None:
    """Others may have collected the precommits of another round."""
    done = world.add_block()
    made = world.build()
    other = make_commit(world.genesis.hash, 1, compute_block_hash(done.block.header), round_=1)
    changed = with_commit(made.block, lambda _: other)
    assert validate(world, changed).block.last_commit == other != world.store.get_commit(1)


def test_a_first_block_with_a_commit_is_refused(world: World) -> None:
    made = world.build()
    commit = make_commit(world.genesis.hash, 0, world.genesis.hash)
    header = dataclasses.replace(made.block.header, last_commit_hash=compute_commit_hash(commit))
    with pytest.raises(BlockInvalid, match="first"):
        validate(world, dataclasses.replace(made.block, header=header, last_commit=commit))


def test_a_block_ahead_of_our_clock_is_refused(world: World) -> None:
    made = world.build()
    time_ms = made.block.header.time_ms
    validate(world, made.block, time_ms - CLOCK_DRIFT_MS_MAX)
    with pytest.raises(BlockInvalid, match="too far ahead"):
        validate(world, made.block, time_ms - CLOCK_DRIFT_MS_MAX - 1)
    validate_block(world.store, world.head, made.block, None, world.pool.is_signed)  # decided: no clock is asked


def test_a_body_with_a_transaction_that_cannot_be_there_is_refused(world: World) -> None:
    made = world.build([world.transfer(0)])
    forged = dataclasses.replace(made.block.transactions[0], signature=bytes(64))
    for body in [(world.transfer(1),), (forged,), 2 * made.block.transactions, (world.transfer(0, amount=MYL + 1),)]:
        header = dataclasses.replace(made.block.header, body_root=compute_body_root((), body))
        with pytest.raises(BlockInvalid):
            validate(world, dataclasses.replace(made.block, header=header, transactions=body))


def test_a_signature_checked_in_the_pool_is_bound_to_its_body(world: World) -> None:
    """The memory of signatures must not let a changed body through."""
    good = world.transfer(0)
    world.pool.submit(good)
    changed = dataclasses.replace(good, body=dataclasses.replace(good.body, tip=1))
    made = world.build([changed])
    assert made.block.transactions == ()


def test_the_next_set_and_rotation_come_from_the_new_state(world: World) -> None:
    """An epoch's last block elects; with one validator the rotation stays centred on it."""
    for _ in range(world.genesis.spec.params.staking.epoch_blocks):
        world.add_block()
    assert world.head.validators.members[0].key == ALICE.consensus_key.public_key
    assert world.head.deciders == world.genesis.validators
    assert world.head.rotation.get_proposer() == ALICE.consensus_key.public_key
