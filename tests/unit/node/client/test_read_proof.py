"""Proofs of state: what an honest node answers is shown, whatever a lying one changes is not."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.runtime.balances.state import accounts
from node.client.read_proof import ProofRefused, read_proven
from node.local_api.methods.all import NodeView, call_method
from proto_specs.codec import encode
from tests.unit.node.world import ALICE, BOB, World

KEY = accounts.key(BOB.account)
ABSENT = b"nothing"


class Node:
    """The RPC methods over a store; `lies` replaces fields of answers."""

    def __init__(self, world: World, **lies: Any) -> None:
        self._view = NodeView(world.genesis.spec, world.store, world.pool, lambda: 0)
        self._lies = lies

    async def call(self, method: str, *params: Any) -> Any:
        """An answer, with its lies."""
        found = call_method(self._view, method, list(params))
        return {name: self._lies.get(name, value) for name, value in found.items()}


@pytest.fixture
def busy_world(world: World) -> World:
    world.add_block([world.transfer(0)])
    world.add_block([world.transfer(1)])
    return world


async def test_a_value_and_an_absence_are_proven(busy_world: World) -> None:
    found = await read_proven(Node(busy_world), KEY)
    value = busy_world.store.get(KEY)
    assert value is not None
    assert found["value"] == f"0x{value.hex()}"
    assert (found["height"], found["proven"]) == (2, True)
    assert found["block"] == f"0x{busy_world.head.block_hash.hex()}"
    assert (await read_proven(Node(busy_world), ABSENT))["value"] is None


async def test_a_value_of_an_earlier_block_is_proven_under_its_header(busy_world: World) -> None:
    first = busy_world.store.get_block_hash(1)
    assert first is not None
    for block in (1, f"0x{first.hex()}"):
        found = await read_proven(Node(busy_world), KEY, block)
        value = busy_world.store.view_at(1).get(KEY)
        assert value is not None
        assert (found["height"], found["value"]) == (1, f"0x{value.hex()}")
    assert found["value"] != (await read_proven(Node(busy_world), KEY))["value"]


async def test_a_proof_of_another_block_than_asked_for_is_a_lie(busy_world: World) -> None:
    """Old state with a true proof would pass for what was asked for."""

    class Stale(Node):
        async def call(self, method: str, *params: Any) -> Any:
            params = (params[0], 2) if method == "state_getReadProof" else params
            return await super().call(method, *params)

    with pytest.raises(ProofRefused, match="not of 1"):
        await read_proven(Stale(busy_world), KEY, 1)


async def test_before_the_first_block_there_is_nothing_to_check_against(world: World) -> None:
    with pytest.raises(ProofRefused, match="no block yet"):
        await read_proven(Node(world), KEY)


async def test_no_lie_is_shown(busy_world: World) -> None:
    state = busy_world.store.view()
    other = state.get(accounts.key(ALICE.account))
    assert other is not None
    wrong = f"0x{'00' * 32}"
    lies: list[tuple[dict[str, Any], str]] = [
        ({"value": f"0x{other.hex()}"}, "does not hold"),
        ({"value": None}, "does not hold"),
        ({"value": "12"}, "no 0x hex"),
        ({"value": "0x1"}, "no 0x hex"),
        ({"proof": f"0x{encode(busy_world.store.view_at(1).prove(KEY)).hex()}"}, "does not hold"),
        ({"proof": "0xff"}, "malformed"),
        ({"stateRoot": wrong}, "not the one in the header"),
        ({"stateRoot": wrong, "state_root": wrong}, "does not hash"),
        ({"receipts_root": wrong}, "does not hash"),
        ({"parent_hash": "0x12"}, "header"),
        ({"hash": wrong}, "does not hash"),
        ({"time_ms": "soon"}, "no 0x hex"),
    ]
    for lie, why in lies:
        with pytest.raises(ProofRefused, match=why):
            await read_proven(Node(busy_world, **lie), KEY)


async def test_a_value_under_a_key_that_holds_nothing_is_a_lie(busy_world: World) -> None:
    with pytest.raises(ProofRefused, match="does not hold"):
        await read_proven(Node(busy_world, value="0x00"), ABSENT)


async def test_an_older_header_does_not_do(busy_world: World) -> None:
    with pytest.raises(ProofRefused, match="not the one in the header"):
        await read_proven(Node(busy_world, height=1), KEY)
