"""What a client wrote it reads: once its transaction is said to be final, every answer on any connection has it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import httpx
import pytest
import trio

from consensus.runtime.balances.state import Account, accounts
from genesis.dev import DevIdentity, get_dev_identity
from node.client.rpc import RpcClient, open_rpc
from node.local_api.wire.errors import LIMIT_EXCEEDED
from proto_specs.codec import decode, encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.calls import Transfer
from tests.integration.node.processes import NodeDirectory
from tests.unit.node.world import MYL, sign_call

pytestmark = pytest.mark.slow
WRITERS = ("alice", "bob", "charlie", "dave", "client")
ROUNDS = 4
READERS = 4
LIMIT_S = 60
READS: list[list[Any]] = [
    ["state_getKeysPaged", "0x", 200],
    ["state_getReadProof", f"0x{accounts.key(get_dev_identity('bob').account).hex()}"],
    ["chain_getBlock"],
    ["system_health"],
]


def show(data: bytes) -> str:
    return f"0x{data.hex()}"


def open_http(number: int) -> httpx.AsyncClient:
    """A client at a loopback address of its own, and so with a rate of its own."""
    transport = httpx.AsyncHTTPTransport(local_address=f"127.0.1.{number}")
    return httpx.AsyncClient(transport=transport, timeout=LIMIT_S)


async def read_busily(url: str, number: int, stopped: trio.Event, done: Counter[str]) -> None:
    """Load: pages, proofs and blocks, in batches, as many as a client may."""
    body = [{"jsonrpc": "2.0", "id": at, "method": name, "params": rest} for at, (name, *rest) in enumerate(READS)]
    async with open_http(number) as http:
        while not stopped.is_set():
            answers = (await http.post(url, json=body)).json()
            assert all("result" in one or one["error"]["code"] == LIMIT_EXCEEDED for one in answers), answers
            done["reads"] += sum("result" in one for one in answers)


async def wait_until_final(rpc: RpcClient, extrinsic: str) -> dict[str, Any]:
    """Asks without a pause: what follows falls into the moment after the block. It is never unknown on the way."""
    while True:
        found: dict[str, Any] | None = await rpc.call("author_extrinsicStatus", extrinsic)
        assert found is not None, f"{extrinsic} was taken, and then unknown"
        if found["status"] == "finalized":
            return found


async def write_and_read(
    node: NodeDirectory, genesis: bytes, who: DevIdentity, number: int, done: Counter[str]
) -> None:
    """Transfers to a fresh account, one after the other, each looked for at once on a connection of its own."""
    source, dest = show(who.account), hash_tagged(Tag.EXTRINSIC, b"fresh" + who.account)
    async with open_http(number) as http:
        rpc = RpcClient(node.url, http)
        nonce = await rpc.call("system_accountNextIndex", source)
        for amount in range(MYL, MYL + ROUNDS):
            before, received = [await rpc.call("system_account", one) for one in (source, show(dest))]
            one = sign_call(genesis, who, nonce, Transfer(dest, amount))
            status = await wait_until_final(rpc, await rpc.call("author_submitExtrinsic", show(encode(one))))
            assert status["receipt"]["error"] is None
            nonce += 1
            async with open_rpc(node.url) as other:
                await look(other, who, nonce, status["height"])
                after = await other.call("system_account", source)
                gained = await other.call("system_account", show(dest))
                raw = await other.call("state_getStorage", show(accounts.key(dest)))
            assert gained["free"] == received["free"] + amount
            assert decode(Account, bytes.fromhex(raw[2:])).free == gained["free"]
            if who.name not in ("alice", "bob"):  # who earns by blocks besides
                assert after["free"] == before["free"] - amount - status["receipt"]["fee"]
            done[who.name] += 1


async def look(rpc: RpcClient, who: DevIdentity, nonce: int, height: int) -> None:
    """The nonce, the next one, the head and the pool all know of the block."""
    source = [show(who.account)]
    asked = (
        ("system_account", source),
        ("system_accountNextIndex", source),
        ("chain_getHeader", []),
        ("system_health", []),
    )
    body = [{"jsonrpc": "2.0", "id": name, "method": name, "params": params} for name, params in asked]
    async with httpx.AsyncClient(timeout=LIMIT_S) as http:
        answers = (await http.post(rpc.url, json=body)).json()
    found = {one["id"]: one["result"] for one in answers}
    assert found["system_account"]["nonce"] == found["system_accountNextIndex"] == nonce
    assert found["chain_getHeader"]["height"] >= height
    assert found["system_health"]["height"] >= height
    waiting = await rpc.call("author_pendingExtrinsics")
    assert not [one for one in waiting if who.account.hex() in one], "nothing of it waits any more"


async def test_under_load_a_final_transaction_is_in_every_answer(shared_node: NodeDirectory) -> None:
    genesis = shared_node.load_genesis().hash
    stopped, done = trio.Event(), Counter[str]()
    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as load:
            for number in range(READERS):
                load.start_soon(read_busily, shared_node.url, 100 + number, stopped, done)
            async with trio.open_nursery() as writers:
                for number, name in enumerate(WRITERS, 1):
                    writers.start_soon(write_and_read, shared_node, genesis, get_dev_identity(name), number, done)
            stopped.set()
    assert done.pop("reads") > READERS * len(READS), "there was load"
    assert done == dict.fromkeys(WRITERS, ROUNDS), "every transfer was looked for"
