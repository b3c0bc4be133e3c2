"""Stake, parameters, accounts of several, fees in detail, the operator's own method: what each answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from node.local_api.methods.all import METHODS, NodeView, call_method
from node.local_api.wire.access import UNSAFE_METHODS
from node.local_api.wire.errors import ApiError
from proto_specs.codec import encode
from proto_specs.ss58 import encode_address
from proto_specs.types.calls import ApproveAsMulti, Call, Delegate, ParamChange, ProposeParams, Undelegate, VoteParams
from proto_specs.types.chain import Transaction, compute_extrinsic_hash
from proto_specs.types.multisig import MultisigOwners, compute_multisig_account
from tests.unit.node.world import ALICE, BOB, MYL, World, sign_call

ALICE_ADDRESS = encode_address(ALICE.account, 42)
BOB_ADDRESS = encode_address(BOB.account, 42)


def call(world: World, name: str, *params: Any, is_validator: bool = False) -> Any:
    view = NodeView(world.genesis.spec, world.store, world.pool, lambda: 0, is_validator)
    return json.loads(json.dumps(call_method(view, name, list(params)), allow_nan=False))


def execute(world: World, who: Any, nonce: int, one: Call) -> None:
    """A block with the call, which has to succeed."""
    (receipt,) = world.add_block([sign_call(world.genesis.hash, who, nonce, one)]).executed.receipts
    assert receipt.error is None, receipt.error


def test_a_validator_its_stake_and_who_delegates_to_it(world: World) -> None:
    before = call(world, "staking_validator", ALICE_ADDRESS)
    assert (before["operator"], before["own"], before["delegated"]) == (ALICE_ADDRESS, 100_000 * MYL, 0)
    assert (before["power"], before["is_standing"], before["jailed_until"]) == (100_000 * MYL, True, None)
    assert call(world, "staking_validator", BOB_ADDRESS) is None
    assert call(world, "staking_delegations", BOB_ADDRESS) == []
    execute(world, BOB, 0, Delegate(ALICE.account, 50 * MYL))
    assert call(world, "staking_validator", ALICE_ADDRESS)["delegated"] == 50 * MYL
    (found,) = call(world, "staking_delegations", BOB_ADDRESS)
    assert found == {"validator": ALICE_ADDRESS, "amount": 50 * MYL, "pending": 0, "liable": []}
    execute(world, BOB, 1, Undelegate(ALICE.account, 20 * MYL))
    stake = call(world, "staking_stake", BOB_ADDRESS)
    (leaving,) = stake["unbonding"]
    assert (stake["bonded"], leaving["validator"], leaving["amount"]) == (0, ALICE_ADDRESS, 20 * MYL)
    assert call(world, "staking_stake", ALICE_ADDRESS) == {"bonded": 100_000 * MYL, "unbonding": []}


def test_parameters_are_those_of_the_spec(world: World) -> None:
    expected = world.genesis.spec.params
    found = call(world, "params_all")
    assert list(found) == ["system", "balances", "staking", "inference", "governance", "multisig"]
    assert found["staking"] == call(world, "staking_params")
    assert found["staking"]["epoch_blocks"] == expected.staking.epoch_blocks
    assert found["inference"] == call(world, "inference_params")


def test_a_proposal_is_shown_with_its_votes(world: World) -> None:
    assert call(world, "params_proposals") == []
    execute(world, ALICE, 0, ProposeParams((ParamChange("system.byte_price", 7),)))
    execute(world, ALICE, 1, VoteParams(0, True))
    (found,) = call(world, "params_proposals")
    assert (found["proposal"], found["proposer"]) == (0, ALICE_ADDRESS)
    assert found["changes"] == [{"name": "system.byte_price", "value": 7}]
    assert found["votes"] == [{"operator": ALICE_ADDRESS, "approve": True}]


def test_operations_of_an_account_of_several_come_in_pages(world: World) -> None:
    owners = MultisigOwners(2, tuple(sorted((ALICE.account, BOB.account))))
    account = encode_address(compute_multisig_account(owners), 42)
    assert call(world, "multisig_operations", account) == []
    for nonce in range(3):
        execute(world, ALICE, nonce, ApproveAsMulti(2, (BOB.account,), None, bytes([9 - nonce]) * 32))
    found = call(world, "multisig_operations", account)
    assert [one["call_hash"][2:4] for one in found] == ["07", "08", "09"]
    assert [one["opened_height"] for one in found] == [3, 2, 1]
    assert {(one["opener"], *one["approvals"]) for one in found} == {(ALICE_ADDRESS, ALICE_ADDRESS)}
    assert call(world, "multisig_operations", account, found[0]["call_hash"]) == found[1:]


def test_the_parts_of_a_fee_make_the_fee_that_is_paid(world: World) -> None:
    one = world.transfer(0, tip=3)
    unsigned = encode(Transaction(one.body, bytes(64)))
    found = call(world, "payment_queryFeeDetails", f"0x{unsigned.hex()}")
    assert found["base"] + found["byteFee"] + found["weightFee"] == found["fee"]
    assert found["byteFee"] == len(unsigned) * world.genesis.spec.params.system.byte_price
    receipt = world.add_block([one]).executed.receipts[0]
    assert (found["fee"], found["tip"], found["weight"]) == (receipt.fee, receipt.tip, receipt.weight)


def test_block_hashes_by_the_list(world: World) -> None:
    world.add_block()
    hashes = [call(world, "chain_getBlockHash", height) for height in (0, 1)]
    assert call(world, "chain_getBlockHash", [1, 0, 2, hashes[1]]) == [hashes[1], hashes[0], None, hashes[1]]
    assert call(world, "chain_getBlockHash", []) == []
    assert len(call(world, "chain_getBlockHash", [0] * 256)) == 256
    with pytest.raises(ApiError, match="at most 256"):
        call(world, "chain_getBlockHash", [0] * 257)


def test_roles(world: World) -> None:
    assert call(world, "system_nodeRoles") == ["Full"]
    assert call(world, "system_nodeRoles", is_validator=True) == ["Authority"]


def test_the_operator_removes_what_waits(world: World) -> None:
    first, second = world.transfer(0), world.transfer(1)
    for one in (first, second):
        world.pool.submit(one)
    extrinsic = f"0x{compute_extrinsic_hash(first).hex()}"
    assert call(world, "author_removeExtrinsic", extrinsic) is True
    assert call(world, "author_removeExtrinsic", extrinsic) is False
    assert call(world, "author_extrinsicStatus", extrinsic) is None
    assert list(world.pool.select()) == [], "what follows it waits for its nonce"
    world.pool.submit(first)
    assert list(world.pool.select()) == [first, second]


def test_every_unsafe_method_is_there_and_marked_in_the_specification() -> None:
    page = (Path(__file__).parents[4] / "proto_specs" / "rpc.md").read_text("utf-8")
    marked = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `") and "Unsafe" in line}
    assert set(METHODS) >= UNSAFE_METHODS == marked
