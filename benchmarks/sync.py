"""`python -m benchmarks.sync`: how fast a new node takes a chain's blocks from peers. See benchmarks/README.md."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import trio

from consensus.beacon import prove_beacon
from genesis.builder import Genesis, build_genesis
from genesis.dev import build_dev_spec, get_dev_identity
from node.chain.blocks import Proposer, build_block, finalize_block
from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.replica.block_sync import BlockSync
from node.replica.exchange import serve_blocks
from node.replica.live import LiveWorld
from node.replica.tip import ChainTip
from node.replica.world import GossipMessage, Request, Response
from node.signatures.processes import SignatureProcesses
from node.store.chain_store import ChainStore
from node.store.retention import Retention
from proto_specs.codec import decode, encode
from proto_specs.hashing import Tag
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import (
    Commit,
    CommitSignature,
    TransactionBody,
    VoteKind,
    compute_vote_bytes,
    sign_transaction,
)
from proto_specs.types.gossip import BlocksRequest, BlocksResponse

BLOCKS, TRANSFERS, PEERS, ACCOUNTS = 60, 500, 3, 100
CHAIN_BLOCKS_PER_S = 1


def main() -> None:
    """Build a chain, sync it, print the figures; JSON or a line on standard output."""
    parser = argparse.ArgumentParser(prog="myelin bench sync", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print everything measured as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few blocks")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="myelin-bench-") as directory:
        found = measure(Path(directory), 5 if options.quick else BLOCKS, TRANSFERS)
    if options.json:
        print(json.dumps(found, indent=1))
    else:
        print(f"{found['blocks_per_s']} blocks/s, {found['transfers_per_s']} transfers/s, {found['ratio']} x the chain")


def measure(directory: Path, blocks: int, transfers: int) -> dict[str, Any]:
    """Blocks a second from peers whose answers are encoded and decoded, but cross no wire."""
    genesis = _make_genesis()
    served = ChainStore(directory / "served", genesis, Retention(None))
    print(f"building {blocks} blocks of {transfers} transfers", file=sys.stderr)
    for height in range(blocks):
        _add_block(served, genesis, height, transfers)
    fresh = ChainStore(directory / "fresh", genesis)
    print("taking them over", file=sys.stderr)
    seconds = trio.run(_take_over, served, fresh)
    assert fresh.get_head() == served.get_head(), "the same chain"
    fresh.close()
    served.close()
    return {
        "cores": len(os.sched_getaffinity(0)),
        "blocks": blocks,
        "transfers_per_block": transfers,
        "peers": PEERS,
        "seconds": round(seconds, 3),
        "blocks_per_s": round(blocks / seconds, 1),
        "transfers_per_s": round(blocks * transfers / seconds),
        "ratio": round(blocks / seconds / CHAIN_BLOCKS_PER_S, 1),
    }


async def _take_over(served: ChainStore, fresh: ChainStore) -> float:
    signatures, ended = SignatureProcesses(), trio.Event()
    world = LiveWorld(_Peers(served), signatures)
    tip = ChainTip(fresh, TransactionPool(fresh, Mempool()), world, lambda _finalized: None)

    def apply(final: Any, then: Callable[[], None]) -> None:
        def done(reason: str | None) -> None:
            assert reason is None, reason
            then()

        tip.finalize(final.block, final.commit, done)

    sync = BlockSync(fresh.genesis_hash, world, fresh.get_head, apply, ended.set)

    def start() -> None:
        for peer in world.list_peers():
            sync.learn_head(peer, served.get_head().height)

    async with trio.open_nursery() as nursery:
        await nursery.start(signatures.run)
        started_s = time.perf_counter()
        nursery.start_soon(world.run, start)
        await ended.wait()
        seconds = time.perf_counter() - started_s
        nursery.cancel_scope.cancel()
    return seconds


class _Peers:
    """Honest peers, all with the same blocks."""

    def __init__(self, store: ChainStore) -> None:
        self._store = store

    def publish(self, message: GossipMessage) -> None:
        """Sends nothing."""

    def list_peers(self) -> list[str]:
        """The names of the peers."""
        return [f"peer-{number}" for number in range(PEERS)]

    async def request(self, peer: str, request: Request) -> Response | None:
        """Answer from a thread: serving is the peers' work, decoding the measured node's own."""
        assert isinstance(request, BlocksRequest)
        body = await trio.to_thread.run_sync(lambda: encode(serve_blocks(request, self._store)))
        return decode(BlocksResponse, body)

    def penalise(self, peer: str, reason: str) -> None:
        """Never called: the peers are honest."""
        raise AssertionError(reason)


def _make_genesis() -> Genesis:
    spec = build_dev_spec(names=tuple(f"payer-{number}" for number in range(ACCOUNTS)))
    return build_genesis(dataclasses.replace(spec, genesis_time_ms=(int(time.time()) - 2 * BLOCKS) * 1_000))


def _add_block(store: ChainStore, genesis: Genesis, number: int, transfers: int) -> None:
    payers = [get_dev_identity(f"payer-{place}") for place in range(ACCOUNTS)]
    validator = get_dev_identity("alice").consensus_key
    transactions = []
    for at in range(number * transfers, (number + 1) * transfers):
        payer, dest = payers[at % ACCOUNTS], payers[(at * 7 + 1) % ACCOUNTS]
        body = TransactionBody(payer.account, at // ACCOUNTS, Transfer(dest.account, 1_000), 0, 0, 0)
        transactions.append(sign_transaction(body, genesis.hash, genesis.hash, payer.account_key))
    head = store.get_head()
    proposer = Proposer(validator.public_key, partial(prove_beacon, validator.seed))
    made = build_block(store, head, proposer, head.time_ms + 1_000, (), transactions, lambda *_: True)
    assert len(made.block.transactions) == transfers, "they fit"
    payload = compute_vote_bytes(genesis.hash, VoteKind.PRECOMMIT, head.height + 1, 0, made.block_hash)
    signed = CommitSignature(validator.public_key, validator.sign(Tag.VOTE_SIGN, payload))
    commit = Commit(head.height + 1, 0, made.block_hash, (signed,))
    store.commit_block(finalize_block(store, head, made, commit))


if __name__ == "__main__":
    main()
