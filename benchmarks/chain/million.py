"""A chain grown to a million accounts, block by block, in this process; prints its resident memory and disk as JSON.

`python -m benchmarks.chain.million DIRECTORY ACCOUNTS`: every block pays new accounts, is built, executed and stored as
a validator does it, with the default retention. Signatures are taken as seen: they are no part of what is asked here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from pathlib import Path

from benchmarks.chain.processes import read_rss_bytes
from genesis.builder import build_genesis
from genesis.dev import build_dev_spec, get_dev_identity
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

PAYERS = 20
PER_BLOCK = 5_000
LAST_BLOCKS = 20
_MIB = 1 << 20


def main() -> None:
    """Grow, run twenty blocks among what is there, measure."""
    directory, count = Path(sys.argv[1]), int(sys.argv[2])
    names = tuple(f"payer-{number}" for number in range(PAYERS))
    spec = build_dev_spec(names=names)
    system = dataclasses.replace(spec.params.system, block_weight_max=10**12, block_bytes_max=2 << 20)
    spec = dataclasses.replace(spec, params=dataclasses.replace(spec.params, system=system))
    store = ChainStore(directory / "db", build_genesis(spec))
    started_s, made = time.monotonic(), 0
    nonces = dict.fromkeys(names, 0)
    while made < count:
        add_block(store, make_payments(names, nonces, made, min(PER_BLOCK, count - made)))
        made += PER_BLOCK
        if sys.stderr.isatty():
            print(f"\r{min(made, count):,} of {count:,} accounts", end="", file=sys.stderr)
    grown_s, began_s = time.monotonic() - started_s, time.monotonic()
    for block in range(LAST_BLOCKS):
        add_block(store, make_payments(names, nonces, block * 1_000 * 7 % count, 1_000))
    took_s = time.monotonic() - began_s
    disk = sum(path.stat().st_size for path in (directory / "db").iterdir())
    found = {
        "accounts": count,
        "rss_mib": round(read_rss_bytes(os.getpid()) / _MIB, 1),
        "disk_mib": round(disk / _MIB, 1),
        "grown_s": round(grown_s, 1),
        "block_of_1000_ms": round(took_s / LAST_BLOCKS * 1e3, 1),
        "height": store.get_head().height,
    }
    store.close()
    print(json.dumps(found))


def make_payments(names: tuple[str, ...], nonces: dict[str, int], first: int, count: int) -> list[Transaction]:
    """Transfers to accounts number `first` and on, each payer's in order of its nonces."""
    made = []
    for number in range(first, first + count):
        name = names[number % len(names)]
        dest = hash_tagged(Tag.PAYLOAD, number.to_bytes(8, "big"))
        body = TransactionBody(get_dev_identity(name).account, nonces[name], Transfer(dest, 2_000_000), 0, 0, 0)
        nonces[name] += 1
        made.append(Transaction(body, bytes(64)))
    return made


def add_block(store: ChainStore, transactions: list[Transaction]) -> None:
    """Build on the head, sign as alice, store."""
    head, alice = store.get_head(), get_dev_identity("alice").consensus_key
    proposer = Proposer(alice.public_key, alice.seed)
    made = build_block(store, head, proposer, head.time_ms + 1_000, (), transactions, lambda *_: True)
    assert len(made.block.transactions) == len(transactions), "all of them fit"
    height = head.height + 1
    payload = compute_vote_bytes(store.genesis_hash, VoteKind.PRECOMMIT, height, 0, made.block_hash)
    signature = CommitSignature(alice.public_key, alice.sign(Tag.VOTE_SIGN, payload))
    store.commit_block(finalize_block(store, head, made, Commit(height, 0, made.block_hash, (signature,))))


if __name__ == "__main__":
    main()
