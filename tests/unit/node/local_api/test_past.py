"""State of earlier blocks: each method answers as it did when that block was the last; what is not kept is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consensus.runtime.balances.state import accounts
from consensus.state.tree import StateProof, verify_proof
from node.local_api.methods.all import NodeView, call_method
from node.local_api.wire.errors import INVALID_PARAMS, STATE_UNAVAILABLE, ApiError
from node.store.retention import Retention
from proto_specs.codec import decode
from proto_specs.hashing import Tag, hash_tagged
from tests.unit.node.world import ALICE, BOB, World

KEY = f"0x{accounts.key(BOB.account).hex()}"
WHO = f"0x{BOB.account.hex()}"
PREFIX = f"0x{b'balances.account:'.hex()}"
READS: list[tuple[str, list[Any]]] = [
    ("system_account", [WHO]),
    ("state_getStorage", [KEY]),
    ("state_getStorageHash", [KEY]),
    ("state_getStorageSize", [KEY]),
    ("state_queryStorageAt", [[KEY, "0x00"]]),
    ("state_getPairs", [PREFIX, None]),
    ("state_getKeysPaged", [PREFIX, 1000, None]),
    ("state_getReadProof", [KEY]),
    ("staking_validator", [f"0x{ALICE.account.hex()}"]),
    ("staking_stake", [f"0x{ALICE.account.hex()}"]),
    ("staking_delegations", [WHO]),
    ("staking_params", []),
    ("params_all", []),
    ("params_proposals", []),
    ("multisig_operations", [WHO, None]),
]


def call(world: World, name: str, *params: Any) -> Any:
    return call_method(NodeView(world.genesis.spec, world.store, world.pool, lambda: 0), name, list(params))


def hash_of(world: World, height: int) -> str:
    found = world.store.get_block_hash(height)
    assert found is not None
    return f"0x{found.hex()}"


@pytest.mark.parametrize(("name", "params"), READS)
def test_a_past_state_answers_as_it_did_then(world: World, name: str, params: list[Any]) -> None:
    then = []
    for nonce in range(4):
        then.append(call(world, name, *params))
        world.add_block([world.transfer(nonce)])
    for height, expected in enumerate(then):
        for block in (height, hash_of(world, height)):
            assert call(world, name, *params, block) == expected, (name, block)
    if name in ("system_account", "state_getStorage", "state_getPairs", "state_getReadProof"):
        assert then[1] != then[2], "the chain moved on, so a method that ignored the block would be seen"


def test_a_past_proof_holds_under_that_blocks_header(world: World) -> None:
    for nonce in range(3):
        world.add_block([world.transfer(nonce)])
    found = call(world, "state_getReadProof", KEY, 1)
    header = world.store.get_header(1)
    assert header is not None
    assert (found["height"], found["stateRoot"]) == (1, f"0x{header.state_root.hex()}")
    proof = decode(StateProof, bytes.fromhex(found["proof"][2:]))
    value = bytes.fromhex(found["value"][2:])
    assert verify_proof(header.state_root, accounts.key(BOB.account), value, proof)
    assert value != world.store.get(accounts.key(BOB.account))


def test_a_state_that_is_not_kept_names_those_that_are(tmp_path: Path) -> None:
    world = World(tmp_path / "short", retention=Retention(state_blocks=2))
    for nonce in range(6):
        world.add_block([world.transfer(nonce)])
    oldest = world.store.oldest_state
    assert oldest > 1
    cases: list[tuple[Any, dict[str, Any]]] = [
        (1, {"reason": "StateUnavailable", "height": 1}),
        (hash_of(world, 1), {"reason": "StateUnavailable", "height": 1}),
        (7, {"reason": "StateUnavailable", "height": 7}),
        (f"0x{'ab' * 32}", {"reason": "UnknownBlock", "block": f"0x{'ab' * 32}"}),
    ]
    for block, details in cases:
        with pytest.raises(ApiError) as refused:
            call(world, "state_getStorage", KEY, block)
        assert refused.value.code == STATE_UNAVAILABLE
        assert refused.value.data == {**details, "oldest": oldest, "newest": 6}
    assert call(world, "state_getStorage", KEY, oldest) is not None
    world.store.close()


def test_hash_and_size_are_those_of_the_value(world: World) -> None:
    value = world.store.get(accounts.key(BOB.account))
    assert value is not None
    assert call(world, "state_getStorageHash", KEY) == f"0x{hash_tagged(Tag.STATE_VALUE, value).hex()}"
    assert call(world, "state_getStorageSize", KEY) == len(value)
    (found,) = call(world, "state_queryStorageAt", [KEY, "0x00"])
    assert found["changes"] == [[KEY, f"0x{value.hex()}"], ["0x00", None]]
    assert call(world, "state_getStorageHash", "0x00") is call(world, "state_getStorageSize", "0x00") is None


def test_keys_come_page_by_page(world: World) -> None:
    found: list[str] = []
    while page := call(world, "state_getKeysPaged", "0x", 7, found[-1] if found else None):
        assert len(page) <= 7
        found += page
    assert found == [f"0x{key.hex()}" for key in world.dump()]
    with pytest.raises(ApiError) as refused:
        call(world, "state_getKeysPaged", "0x", 1025)
    assert refused.value.code == INVALID_PARAMS
