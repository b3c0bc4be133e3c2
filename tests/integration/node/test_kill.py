"""kill -9 of a real validator that prunes under load, again and again: nothing is lost, nothing is signed twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

from consensus.runtime.balances import state as balances
from node.client.chain_view import ChainUnreachable
from node.client.rpc import RpcClient
from node.client.rpc_errors import RpcError
from node.store.chain_store import ChainStore
from node.store.check import check_database
from node.store.retention import BODY_BLOCKS_MIN
from proto_specs.codec import encode
from proto_specs.types.chain import Transaction
from tests.integration.node.processes import NodeDirectory, read_signer, wait_until_gone
from tests.unit.node.replay import replay_chain
from tests.unit.node.store.test_snapshot import ignore
from tests.unit.node.world import ALICE, BOB, MYL, make_transfer

KILLS = 6
STATES = 3
SEED = 20_261_123
FINAL_TRANSFERS = 20


async def submit_for_ever(rpc: RpcClient, transfers: list[Transaction], accepted: set[bytes]) -> None:
    """Sends transfers in the order of their nonces, from wherever the chain is; stops when the node is gone."""
    try:
        nonce = int(await rpc.call("system_accountNextIndex", f"0x{ALICE.account.hex()}"))
        for one in transfers[nonce:]:
            accepted.add(bytes.fromhex((await rpc.call("author_submitExtrinsic", f"0x{encode(one).hex()}"))[2:]))
    except (ChainUnreachable, RpcError):
        return


@pytest.mark.slow
@pytest.mark.leaves_open
async def test_kill_at_random_moments_under_load(tmp_path: Path) -> None:
    dice = random.Random(SEED)
    node = NodeDirectory.init(tmp_path / "node", interval_ms=100)
    node.options = ("--pruning", str(STATES), "--keep-blocks", str(BODY_BLOCKS_MIN))
    genesis = node.load_genesis()
    transfers = [make_transfer(genesis.hash, ALICE, nonce) for nonce in range(3_000)]
    accepted: set[bytes] = set()
    height = 0
    for _ in range(KILLS):
        async with node.run() as run, trio.open_nursery() as nursery:
            height = await run.wait_for_height(height + 1)
            nursery.start_soon(submit_for_ever, run.rpc, transfers, accepted)
            await trio.sleep(dice.uniform(0.05, 1.0))
            children = list(run.list_children())
            run.kill()
            await run.process.wait()
            nursery.cancel_scope.cancel()
        await wait_until_gone(children)
        signed = read_signer(node.base)
        assert signed["height"] >= height, "what was signed is never forgotten"
        report = check_database(node.base / "db", genesis, ignore)
        assert (report.problems, report.states) == ([], min(STATES, report.height))
        assert report.blocks == report.bodies == report.commits == report.height >= height
        height = max(height, replay_chain(node.base / "db", tmp_path / f"replay-{signed['height']}", genesis))
    async with node.run() as run:
        await run.wait_for_height(height + 1)
        nonce = int(await run.rpc.call("system_accountNextIndex", f"0x{ALICE.account.hex()}"))
        hashes = [
            await run.rpc.call("author_submitExtrinsic", f"0x{encode(one).hex()}")
            for one in transfers[nonce : nonce + FINAL_TRANSFERS]
        ]
        assert (await run.wait_for_status(hashes[-1]))["receipt"]["error"] is None
        assert await run.stop() == 0
    said = node.log.read_text()
    assert "Traceback" not in said
    assert f"keeping states of {STATES} blocks" in said
    assert f"bodies of {BODY_BLOCKS_MIN} blocks" in said
    assert len(accepted) > KILLS
    replay_chain(node.base / "db", tmp_path / "replay", genesis)
    store = ChainStore(node.base / "db", genesis)
    alice, bob = (balances.read_account(store, one.account) for one in (ALICE, BOB))
    assert alice.nonce == nonce + FINAL_TRANSFERS
    assert bob.free == (1_000_000 + alice.nonce) * MYL, "each transfer once"
    store.close()
