"""The node's pool: the runtime's rules over the head, signatures verified once, the chain followed."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.runtime import errors
from node.chain import pool as pool_module
from node.chain.mempool import AlreadyKnown
from proto_specs.types.calls import Remark
from proto_specs.types.chain import TransactionBody, compute_extrinsic_hash, sign_transaction
from tests.unit.node.world import ALICE, BOB, World, sign_call


def test_a_transfer_is_taken_and_selected(world: World) -> None:
    one = world.transfer(0)
    assert world.pool.submit(one) == compute_extrinsic_hash(one)
    assert compute_extrinsic_hash(one) in world.pool
    assert list(world.pool.select()) == [one]
    assert world.pool.get_next_nonce(ALICE.account) == 1


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"signature": bytes(64)}, errors.BadSignature),
        ({"nonce": 1, "wrong_genesis": True}, errors.BadSignature),
        ({"birth_height": 5, "period_blocks": 8}, errors.NotYetBorn),
        ({"birth_height": 0, "period_blocks": 5_000}, errors.UnknownBirth),
        ({"tip": 2**63}, errors.CannotPayFee),
    ],
)
def test_what_the_runtime_refuses_is_refused_with_its_reason(
    world: World, fields: dict[str, object], error: type[errors.InvalidTransaction]
) -> None:
    base = {"signer": ALICE.account, "nonce": 0, "call": Remark(b""), "tip": 0, "birth_height": 0, "period_blocks": 0}
    body = TransactionBody(**{name: fields.get(name, value) for name, value in base.items()})  # type: ignore[arg-type]
    genesis = bytes(32) if fields.get("wrong_genesis") else world.genesis.hash
    made = sign_transaction(body, genesis, world.genesis.hash, ALICE.account_key)
    if "signature" in fields:
        made = dataclasses.replace(made, signature=bytes(64))
    with pytest.raises(error) as refused:
        world.pool.submit(made)
    assert refused.value.reason == error.__name__
    assert len(world.pool) == 0


def test_a_used_nonce_names_the_next(world: World) -> None:
    world.add_block([world.transfer(0), world.transfer(1)])
    with pytest.raises(errors.StaleNonce) as refused:
        world.pool.submit(world.transfer(0, amount=5))
    assert refused.value.details == {"expected": 2}


def test_a_signature_is_verified_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    real = pool_module.is_transaction_signed

    def count(*args: object) -> bool:
        verified.append(args)
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pool_module, "is_transaction_signed", count)
    one = world.transfer(0)
    world.pool.submit(one)
    with pytest.raises(AlreadyKnown):
        world.pool.submit(one)
    made = world.build(world.pool.select())
    assert made.block.transactions == (one,)
    assert len(verified) == 1


def test_a_block_removes_what_it_included_or_outdated(world: World) -> None:
    for nonce in range(3):
        world.pool.submit(world.transfer(nonce))
    world.pool.submit(sign_call(world.genesis.hash, BOB, 0, Remark(b"waits")))
    world.add_block([world.transfer(0), world.transfer(1, amount=7)])
    assert {one.body.nonce for one in world.pool if one.body.signer == ALICE.account} == {2}
    assert len(world.pool) == 2
    world.add_block(world.pool.select())
    assert len(world.pool) == 0


def test_mortality_is_counted_against_the_head(world: World) -> None:
    genesis = world.genesis.hash
    body = TransactionBody(ALICE.account, 0, Remark(b""), 0, 0, 2)
    world.pool.submit(sign_transaction(body, genesis, genesis, ALICE.account_key))
    world.add_block()
    assert len(world.pool) == 1
    world.add_block()
    assert len(world.pool) == 0


def test_selection_is_what_one_block_has_room_for(world: World) -> None:
    remark = Remark(bytes(1024))
    for nonce in range(1_100):
        world.pool.submit(sign_call(world.genesis.hash, ALICE, nonce, remark))
    chosen = list(world.pool.select())
    assert 0 < len(chosen) < 1_100
    made = world.build(chosen)
    assert len(made.block.transactions) == len(chosen)
