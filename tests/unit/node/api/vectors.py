"""Writes vectors/rpc.json, the answers on a known chain: `python -m tests.unit.node.api.vectors`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import proto_specs
from consensus.runtime.balances.state import accounts
from consensus.runtime.system.state import now
from node.api.errors import ApiError
from node.api.methods import NodeView, call_method
from proto_specs.codec import encode
from proto_specs.ss58 import encode_address
from proto_specs.types.calls import Remark
from proto_specs.types.chain import Transaction, compute_extrinsic_hash
from tests.unit.node.world import ALICE, BOB, World, sign_call

PATH = Path(proto_specs.__file__).parent / "vectors" / "rpc.json"
FORMAT = "calls by place on the chain that tests/unit/node/api/vectors.py makes; result, or error (rpc.md)"
AGE_MS = 250
UNKNOWN = "0x" + "ab" * 32
MISTYPED = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQX"


def make_known_chain(world: World) -> None:
    """Three blocks: two transfers, one of them failing; a remark; none. One transaction waits."""
    genesis = world.genesis.hash
    world.add_block([world.transfer(0, tip=5), world.transfer(1, amount=10**18)])
    world.add_block([sign_call(genesis, BOB, 0, Remark(b"hello"))])
    world.add_block()
    world.pool.submit(world.transfer(2))


def list_calls(world: World) -> list[tuple[str, list[Any]]]:
    """What is asked of it."""
    alice, bob = encode_address(ALICE.account, 42), show(accounts.key(BOB.account))
    first, waiting = world.transfer(0, tip=5), world.transfer(2)
    plain = ("system_chain", "system_properties", "system_health", "chain_getFinalizedHead")
    plain += ("state_getRuntimeVersion", "author_pendingExtrinsics", "staking_validators")
    plain += ("inference_params", "inference_models")
    return [
        *((name, []) for name in plain),
        ("system_account", [alice]),
        ("system_account", [MISTYPED]),
        ("system_accountNextIndex", [alice]),
        *(("chain_getHeader", [height]) for height in (0, 1, 9)),
        ("chain_getBlock", [2]),
        *(("chain_getBlockHash", [height]) for height in (0, 3)),
        *(("chain_getReceipts", [height]) for height in (1, 2)),
        *(("state_getStorage", [key]) for key in (bob, "0x00")),
        ("state_getReadProof", [bob]),
        ("state_getPairs", [show(now.key)]),
        *(("author_extrinsicStatus", [one]) for one in (show_hash(waiting), show_hash(first), UNKNOWN)),
        ("payment_queryInfo", [show(encode(waiting))]),
        *(("author_submitExtrinsic", [one]) for one in (show(encode(world.transfer(0))), "0x00", "hello")),
        ("inference_model", [UNKNOWN]),
    ]


def show(data: bytes) -> str:
    """0x hex."""
    return f"0x{data.hex()}"


def show_hash(transaction: Transaction) -> str:
    """What a transaction is asked for by."""
    return show(compute_extrinsic_hash(transaction))


def record(world: World) -> dict[str, Any]:
    """The file's content."""
    make_known_chain(world)
    view = NodeView(world.genesis.spec, world.store, world.pool, lambda: world.head.time_ms + AGE_MS)
    calls: list[dict[str, Any]] = []
    for method, params in list_calls(world):
        try:
            calls.append({"method": method, "params": params, "result": call_method(view, method, params)})
        except ApiError as error:
            calls.append({"method": method, "params": params, "error": error.to_json()})
    return {"format": FORMAT, "calls": calls}


def main() -> None:
    """Write it."""
    with tempfile.TemporaryDirectory() as directory:
        world = World(Path(directory) / "db")
        PATH.write_text(json.dumps(record(world), indent=1) + "\n", "utf-8")
        world.store.close()


if __name__ == "__main__":
    main()
