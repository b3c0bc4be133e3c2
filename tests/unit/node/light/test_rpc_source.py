"""Answers of a node over JSON-RPC as light blocks and proofs; what is no answer is a lost source, never a crash."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import proto_specs
from consensus.light.verify import make_trusted, verify_handover
from consensus.runtime.staking.state import validators
from node.client.rpc import RpcClient
from node.client.rpc_errors import RpcError, RpcUnreachable
from node.light.errors import SourceLost
from node.light.rpc_source import RpcSource
from node.local_api.wire.errors import STATE_UNAVAILABLE
from node.store.light_blocks import find_light_block
from proto_specs.codec import encode
from proto_specs.types.chain import compute_block_hash
from tests.unit.node.store.test_history import grow
from tests.unit.node.world import World

RECORDED = json.loads((Path(proto_specs.__file__).parent / "vectors" / "rpc.json").read_text("utf-8"))["exchanges"]


class Answers:
    """A client whose node says what it is told to."""

    url = "http://node"

    def __init__(self, give: Callable[[str, tuple[Any, ...]], Any]) -> None:
        self._give = give

    async def call(self, method: str, *params: Any) -> Any:
        return self._give(method, params)


def source_of(give: Callable[[str, tuple[Any, ...]], Any]) -> RpcSource:
    return RpcSource(cast(RpcClient, Answers(give)), 42)


def find_recorded(method: str, params: list[Any]) -> Any:
    asked = {"method": method, "params": params}
    (found,) = [one for one in RECORDED if {k: one["request"][k] for k in asked} == asked][:1]
    return found["response"]["result"]


async def test_the_recorded_light_block_is_sound() -> None:
    source = source_of(lambda method, params: find_recorded(method, list(params)))
    block = await source.get_block(1)
    assert block is not None
    assert f"0x{compute_block_hash(block.header).hex()}" == find_recorded("chain_getBlockHash", [1])
    assert await source.get_block(99) is None
    genesis = await source.get_genesis_hash()
    assert block.header.parent_hash == genesis


async def test_a_handover_is_read_and_holds(tmp_path: Path) -> None:
    world = World(tmp_path / "db")
    grow(world, 3)
    view = world.store.view_at(2)
    answer = {
        "value": f"0x{(view.get(validators.key) or b'').hex()}",
        "proof": f"0x{encode(view.prove(validators.key)).hex()}",
    }
    handover = await source_of(lambda method, params: answer).get_handover(2)
    block = find_light_block(world.store, 2)
    assert handover is not None
    assert block is not None
    assert verify_handover(make_trusted(block), handover).successors_hash == block.header.validators_hash
    world.store.close()


async def test_a_state_that_is_not_kept_is_no_handover() -> None:
    def refuse(method: str, params: tuple[Any, ...]) -> Any:
        raise RpcError(STATE_UNAVAILABLE, "pruned")

    assert await source_of(refuse).get_handover(2) is None


def spoil(path: list[str], value: Any) -> Any:
    found = copy.deepcopy(find_recorded("chain_getLightBlock", [1]))
    at = found
    for one in path[:-1]:
        at = at[one]
    at[path[-1]] = value
    return found


GARBAGE = [
    7,
    [],
    "text",
    {},
    spoil(["header"], None),
    spoil(["header", "height"], -1),
    spoil(["header", "height"], 1 << 64),
    spoil(["header", "parent_hash"], "0x"),
    spoil(["commit", "signatures"], [{}] * 2_000),
    spoil(["commit", "round"], True),
    spoil(["validators", "members"], {}),
]


@pytest.mark.parametrize("answer", GARBAGE, ids=range(len(GARBAGE)))
async def test_garbage_is_a_lost_source(answer: Any) -> None:
    source = source_of(lambda method, params: answer)
    with pytest.raises(SourceLost):
        await source.get_block(1)
    with pytest.raises(SourceLost):
        await source.get_proven(b"key", 1)
    with pytest.raises(SourceLost):
        await source.get_genesis_hash()


async def test_a_node_that_is_gone_is_a_lost_source() -> None:
    def away(method: str, params: tuple[Any, ...]) -> Any:
        raise RpcUnreachable("gone")

    with pytest.raises(SourceLost, match="gone"):
        await source_of(away).get_block(1)
