"""Submission: whatever comes of it the caller learns the hash, every refusal has its reason, and repeating is safe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consensus.runtime.errors import InvalidTransaction
from node.chain.admission import PoolBusy
from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.local_api.methods.all import NodeView
from node.local_api.methods.author import show_submission
from node.local_api.wire.errors import INVALID_PARAMS, INVALID_TRANSACTION, ApiError
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import EXTRINSIC_BYTES_MAX
from proto_specs.types.calls import Remark
from proto_specs.types.chain import Transaction, TransactionBody, compute_extrinsic_hash, sign_transaction
from tests.unit.node.local_api.calling import call
from tests.unit.node.world import ALICE, BOB, World, sign_call


def view_of(world: World) -> NodeView:
    return NodeView(world.genesis.spec, world.store, world.pool, lambda: 0)


def submit(world: World, data: bytes) -> Any:
    return call(view_of(world), "author_submitExtrinsic", [f"0x{data.hex()}"])


def refuse(world: World, data: bytes) -> dict[str, Any]:
    """The refusal's data, less the hash, which it has to have."""
    with pytest.raises(ApiError) as refused:
        submit(world, data)
    assert refused.value.code == INVALID_TRANSACTION
    details = dict(refused.value.data)
    assert details.pop("extrinsic") == f"0x{hash_tagged(Tag.EXTRINSIC, data).hex()}"
    return details


def show_hash(one: Transaction) -> str:
    return f"0x{compute_extrinsic_hash(one).hex()}"


def sign_mortal(world: World, birth: int, birth_hash: bytes, period: int, nonce: int = 0) -> bytes:
    body = TransactionBody(ALICE.account, nonce, Remark(b""), 0, birth, period)
    return encode(sign_transaction(body, world.genesis.hash, birth_hash, ALICE.account_key))


def test_the_same_again_is_a_success_while_it_waits_and_when_it_is_in_a_block(world: World) -> None:
    one = world.transfer(0)
    for _ in range(2):
        assert submit(world, encode(one)) == show_hash(one)
    assert len(world.pool) == 1
    world.add_block(world.pool.select())
    assert len(world.pool) == 0
    assert submit(world, encode(one)) == show_hash(one)
    assert len(world.pool) == 0, "it does not wait for a second time"


def test_what_waits_is_a_success_even_when_the_pool_is_busy_or_full(world: World) -> None:
    """Who repeats because the node was slow must not be told that its transaction failed."""
    one = world.transfer(0)
    submit(world, encode(one))
    outcome = PoolBusy("busy", waiting=1)
    assert show_submission(view_of(world), compute_extrinsic_hash(one), outcome) == show_hash(one)
    with pytest.raises(ApiError) as refused:
        show_submission(view_of(world), bytes(32), outcome)
    assert refused.value.data == {"reason": "PoolBusy", "extrinsic": f"0x{bytes(32).hex()}", "waiting": 1}


def test_another_signature_is_another_transaction(world: World) -> None:
    """Somebody else's copy with a spoilt signature neither passes as what is in a block, nor hides it."""
    one = world.transfer(0)
    world.add_block([one])
    assert refuse(world, encode(Transaction(one.body, bytes(64)))) == {"reason": "StaleNonce", "expected": 1}


def test_bytes_that_are_no_transaction(world: World) -> None:
    for data in (b"\0", encode(world.transfer(0)) + b"\0", encode(world.transfer(0))[:-1]):
        assert refuse(world, data) == {"reason": "DecodeError"}


def test_too_large(world: World) -> None:
    data = bytes(EXTRINSIC_BYTES_MAX + 1)
    assert refuse(world, data) == {"reason": "TooLarge", "bytes": len(data)}
    with pytest.raises(ApiError) as refused:
        submit(world, bytes((1 << 19) + 1))
    assert refused.value.code == INVALID_PARAMS


def test_a_nonce_that_was_used_or_is_too_far(world: World) -> None:
    world.add_block([world.transfer(0)])
    other = sign_call(world.genesis.hash, ALICE, 0, Remark(b"other"))
    assert refuse(world, encode(other)) == {"reason": "StaleNonce", "expected": 1}
    assert refuse(world, encode(world.transfer(99))) == {"reason": "NonceTooFar", "expected": 1}


def test_a_replacement_that_tips_too_little(world: World) -> None:
    submit(world, encode(world.transfer(0)))
    assert refuse(world, encode(world.transfer(0, amount=7))) == {"reason": "ReplacementUnderpriced", "needed": 1}


def test_a_full_pool(world: World) -> None:
    world.pool = TransactionPool(world.store, Mempool(transactions_max=1))
    submit(world, encode(world.transfer(0)))
    found = refuse(world, encode(world.transfer(0, BOB)))
    assert found.pop("needed") > 0
    assert found == {"reason": "PoolFull"}


def test_a_purse_that_is_too_small(world: World) -> None:
    poor = sign_call(world.genesis.hash, BOB, 0, Remark(b""), tip=2**63)
    found = refuse(world, encode(poor))
    assert found["needed"] > found["free"] > 0
    assert found["reason"] == "CannotPayFee"


def test_a_signature_that_does_not_verify(world: World) -> None:
    one = world.transfer(0)
    assert refuse(world, encode(Transaction(one.body, bytes(64)))) == {"reason": "BadSignature"}


def test_births(world: World) -> None:
    genesis = world.genesis.hash
    for _ in range(3):
        world.add_block()
    known = world.store.get_block_hash(1)
    assert known is not None
    expired = refuse(world, sign_mortal(world, 1, known, 2))
    assert expired == {"reason": "Expired", "last_height": 3, "height": 4}
    unborn = refuse(world, sign_mortal(world, 9, genesis, 8))
    assert unborn == {"reason": "NotYetBorn", "birth_height": 9, "height": 4}
    assert refuse(world, sign_mortal(world, 1, known, 1 << 20))["reason"] == "UnknownBirth"


def test_every_reason_has_a_line_in_the_specification() -> None:
    page = (Path(__file__).parents[4] / "proto_specs" / "rpc.md").read_text("utf-8")
    classes = [InvalidTransaction]
    for one in classes:
        classes += one.__subclasses__()
    unseen = {"PoolRefused", "FutureNonce", "BlockFull", "Misplaced", "AlreadyKnown"}
    reasons = {one.reason for one in classes if hasattr(one, "reason")} - unseen
    assert {reason for reason in {*reasons, "DecodeError"} if f"\n| `{reason}` |" not in page} == set()
