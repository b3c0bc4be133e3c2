"""A chain with a million accounts: grown block by block in a process of its own, then run and loaded as any other.

Every block of the growth pays new accounts, and is built, executed and stored as a validator does it, with the default
retention; signatures are not checked. Then `myelin run` takes the directory, and gets transfers to accounts all over
the state: rate, CPU and memory are those of that process, which has not grown anything.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.chain.audit import Ask
from benchmarks.chain.load import LoadFailed
from benchmarks.chain.ours import init_node, load_node, make_own_feeds, run_node, sign_transfer
from benchmarks.chain.processes import find_free_port, read_memory
from benchmarks.chain.results import Run, Setting
from consensus.beacon import prove_beacon
from genesis.builder import build_genesis
from genesis.dev import build_dev_spec, get_dev_identity
from genesis.spec import ChainSpec, compute_genesis_hash
from node.chain.blocks import Proposer, build_block, finalize_block
from node.store.chain_store import ChainStore
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import (
    Commit,
    CommitSignature,
    Transaction,
    TransactionBody,
    VoteKind,
    compute_vote_bytes,
)

ACCOUNTS = 1_000_000
NAMES = tuple(f"payer-{number}" for number in range(100))
SETTING = Setting(connections=4, batch=100, accounts=len(NAMES))
PER_BLOCK = 1_500
"""Transactions that fill less than half of a block, so that fees do not rise while the chain grows."""
TRANSFERS = 20_000
REST_S = 5.0
AFTER_S = 30.0
GROWTH = 2_000_000
"""nmyl paid to every new account: more than the existential deposit."""


def measure(directory: Path, count: int = ACCOUNTS, transfers: int = TRANSFERS) -> dict[str, Any]:
    """Rate, CPU, memory and disk of a node with `count` accounts. Raises LoadFailed, NotStarted."""
    directory.mkdir(parents=True, exist_ok=True)
    base = directory / "node"
    init_node(base, make_spec())
    started_s = time.monotonic()
    subprocess.run([sys.executable, "-m", "benchmarks.chain.million", str(base / "db"), str(count)], check=True)
    grown_s = time.monotonic() - started_s
    run, idle, settled = asyncio.run(_run(base, directory / "million.log", count, transfers))
    disk = sum(path.stat().st_size for path in (base / "db").iterdir())
    return {
        "accounts": count,
        "grown_s": round(grown_s, 1),
        "disk_mib": round(disk / (1 << 20), 1),
        "run": {**asdict(run), "per_s": round(run.per_s, 1)},
        "memory_mib": {"idle": idle, "under_load": run.memory_mib, "after": settled},
    }


def main() -> None:
    """Grow the chain: `python -m benchmarks.chain.million DATABASE ACCOUNTS`."""
    store, count = ChainStore(Path(sys.argv[1]), build_genesis(make_spec())), int(sys.argv[2])
    nonces, made = dict.fromkeys(NAMES, 0), 0
    while made < count:
        add_block(store, make_payments(nonces, made, min(PER_BLOCK, count - made)))
        made += PER_BLOCK
        if sys.stderr.isatty():
            print(f"\r{min(made, count):,} of {count:,} accounts", end="", file=sys.stderr)
    store.close()


def make_spec() -> ChainSpec:
    """The development chain, with more payers."""
    return build_dev_spec(names=NAMES)


def make_account(number: int) -> bytes:
    """The account that the growth pays as number `number`."""
    return hash_tagged(Tag.PAYLOAD, number.to_bytes(8, "big"))


def make_payments(nonces: dict[str, int], first: int, count: int) -> list[Transaction]:
    """Transfers to `count` accounts from number `first` on, each payer's in order of its nonces."""
    made = []
    for number in range(first, first + count):
        name = NAMES[number % len(NAMES)]
        call = Transfer(make_account(number), GROWTH)
        made.append(
            Transaction(TransactionBody(get_dev_identity(name).account, nonces[name], call, 0, 0, 0), bytes(64))
        )
        nonces[name] += 1
    return made


def add_block(store: ChainStore, transactions: list[Transaction]) -> None:
    """Build a block on the head, sign it as alice, store it."""
    head, alice = store.get_head(), get_dev_identity("alice").consensus_key
    proposer = Proposer(alice.public_key, partial(prove_beacon, alice.seed))
    made = build_block(store, head, proposer, head.time_ms + 1_000, (), transactions, lambda *_: True)
    assert len(made.block.transactions) == len(transactions), "all of them fit"
    height = head.height + 1
    payload = compute_vote_bytes(store.genesis_hash, VoteKind.PRECOMMIT, height, 0, made.block_hash)
    signature = CommitSignature(alice.public_key, alice.sign(Tag.VOTE_SIGN, payload))
    store.commit_block(finalize_block(store, head, made, Commit(height, 0, made.block_hash, (signature,))))


async def _run(base: Path, log: Path, count: int, transfers: int) -> tuple[Run, dict[str, float], dict[str, float]]:
    """Load the node with transfers to random accounts; its memory is read before, and after a rest."""
    dice, genesis, port = random.Random(1), compute_genesis_hash(make_spec()), find_free_port()
    sent, each = count // len(NAMES), transfers // len(NAMES)
    signed = {
        name: [
            sign_transfer(get_dev_identity(name), make_account(dice.randrange(count)), nonce, genesis)
            for nonce in range(sent, sent + each)
        ]
        for name in NAMES
    }
    feeds = make_own_feeds(port, signed, SETTING)

    async def check(ask: Ask, height: int) -> tuple[list[int], dict[str, Any]]:
        for name in NAMES:
            found = await ask("system_account", f"0x{get_dev_identity(name).account.hex()}")
            if found["nonce"] != sent + each:
                raise LoadFailed(f"an account's nonce is {found['nonce']}, {sent + each} were sent")
        head = (await ask("system_health"))["height"]
        receipts = [(await ask("chain_getReceipts", one))["receipts"] for one in range(height + 1, head + 1)]
        if any(one["error"] for block in receipts for one in block) or sum(map(len, receipts)) != transfers:
            raise LoadFailed("not all transfers are in the blocks, each once and without an error")
        return [len(block) for block in receipts if block], {}

    with run_node(base, port, log) as node:
        await asyncio.sleep(REST_S)
        idle = read_memory(node.pid)
        run = await load_node(node.pid, port, feeds, transfers, check)
        await asyncio.sleep(AFTER_S)
        return run, idle, read_memory(node.pid)


if __name__ == "__main__":
    main()
