"""The cost of state accesses where the state is large: a database of a million accounts, written as a node writes it.

Reads, ranges and changed keys each have a price. Calls are timed in memory, and their accesses are only counted.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.weights.rig import compute_quiet
from consensus.beacon import prove_beacon
from consensus.runtime.balances.state import Account, accounts
from consensus.state.tree import EMPTY_ROOT, update
from genesis.builder import Genesis, build_genesis
from genesis.dev import build_dev_spec, get_dev_identity
from node.chain.blocks import Proposer, build_block, finalize_block
from node.store.chain_store import ChainStore, Retention
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.calls import Remark, Transfer
from proto_specs.types.chain import (
    Commit,
    CommitSignature,
    Transaction,
    TransactionBody,
    VoteKind,
    compute_vote_bytes,
)

ACCOUNTS = 1_000_000
BLOCKS = 15
PER_BLOCK = 1_000
READS = 3_000
WARM_UP_BLOCKS = 3


@dataclass(frozen=True, slots=True)
class StoreCosts:
    """Nanoseconds of CPU time of the thread that makes blocks, for each access.

    A key read, a range opened, a row met in it; putting an empty transaction of a block on disk; the extra cost of a
    transfer to an account of its own over an empty transaction. `pair_ns` is a whole transfer between two accounts of
    its own from candidate to disk: it is no price, but the prices together must cover it. LevelDB compacts in its own
    threads.
    """

    accounts: int
    read_ns: int
    seek_ns: int
    row_ns: int
    commit_ns: int
    key_ns: int
    pair_ns: int


def measure_store(directory: Path, count: int = ACCOUNTS, per_block: int = PER_BLOCK) -> StoreCosts:
    """Fill a database with `count` accounts, read from it, and add blocks to it whose old states are pruned."""
    store = ChainStore(directory, _fill(count), Retention(state_blocks=WARM_UP_BLOCKS))
    try:
        chosen = random.Random(7)
        numbers = chosen.sample(range(count), min(READS, count // 4))
        read_ns = _time_each(numbers, lambda number: store.get(make_key(number)))
        one_row_ns = _time_each(numbers, lambda number: list(store.iterate(make_key(number))))
        shelf = accounts.prefix + b"\x55"
        rows = sum(1 for _ in store.iterate(shelf))
        row_ns = _time_each(range(5), lambda _: list(store.iterate(shelf))) // max(rows, 1)
        commits, differences, pairs = [], [], []
        for _ in range(WARM_UP_BLOCKS + BLOCKS):
            built_ns, committed_ns = _time_block(store, _make_remarks(store, 0, per_block))
            commits.append(committed_ns / per_block)
            dests = chosen.sample(range(1, count), per_block)
            transfers_ns = sum(_time_block(store, _make_transfers(store, 0, dests)))
            differences.append((transfers_ns - built_ns - committed_ns) / per_block)
            sides = chosen.sample(range(1, count), 2 * per_block)
            both = [
                _make(store, one, 0, Transfer(_make_account(two), 1))
                for one, two in zip(sides[::2], sides[1::2], strict=True)
            ]
            pairs.append(sum(_time_block(store, both)) / per_block)
    finally:
        store.close()
    return StoreCosts(
        accounts=count,
        read_ns=read_ns,
        seek_ns=max(one_row_ns - row_ns, 0),
        row_ns=row_ns,
        commit_ns=compute_quiet(commits[WARM_UP_BLOCKS:]),
        key_ns=compute_quiet(differences[WARM_UP_BLOCKS:]),
        pair_ns=compute_quiet(pairs[WARM_UP_BLOCKS:]),
    )


def make_key(number: int) -> bytes:
    """The state key of account number `number`."""
    return accounts.key(_make_account(number))


def _make_account(number: int) -> bytes:
    return hash_tagged(Tag.PAYLOAD, number.to_bytes(8, "big"))


def _fill(count: int) -> Genesis:
    """The development genesis with `count` more accounts than a spec may list."""
    spec = build_dev_spec()
    system = dataclasses.replace(spec.params.system, block_weight_max=10**12)
    small = build_genesis(dataclasses.replace(spec, params=dataclasses.replace(spec.params, system=system)))
    value = encode(Account(0, 10**12, 0))
    items = sorted((*small.items, *((make_key(number), value) for number in range(count))))
    tree = update(lambda path: None, EMPTY_ROOT, items)
    return dataclasses.replace(small, items=tuple(items), tree=tree)


def _time_each(numbers: Sequence[int], run: Callable[[int], Any]) -> int:
    """ns of this thread's CPU time for a `run`."""
    taken = []
    for number in numbers:
        started = time.thread_time_ns()
        run(number)
        taken.append(time.thread_time_ns() - started)
    return compute_quiet(taken)


def _time_block(store: ChainStore, transactions: list[Transaction]) -> tuple[int, int]:
    """ns from the candidates to the block, and from the block to the synced batch."""
    head, alice = store.get_head(), get_dev_identity("alice").consensus_key
    proposer = Proposer(alice.public_key, partial(prove_beacon, alice.seed))
    started = time.thread_time_ns()
    made = build_block(store, head, proposer, head.time_ms + 1_000, (), transactions, lambda *_: True)
    built = time.thread_time_ns()
    assert len(made.block.transactions) == len(transactions), "all of them fit"
    height = head.height + 1
    payload = compute_vote_bytes(store.genesis_hash, VoteKind.PRECOMMIT, height, 0, made.block_hash)
    signature = CommitSignature(alice.public_key, alice.sign(Tag.VOTE_SIGN, payload))
    finalized = finalize_block(store, head, made, Commit(height, 0, made.block_hash, (signature,)))
    store.commit_block(finalized)
    return built - started, time.thread_time_ns() - built


def _make_remarks(store: ChainStore, signer: int, count: int) -> list[Transaction]:
    return [_make(store, signer, place, Remark(b"")) for place in range(count)]


def _make_transfers(store: ChainStore, signer: int, dests: Sequence[int]) -> list[Transaction]:
    return [_make(store, signer, place, Transfer(_make_account(dest), 1)) for place, dest in enumerate(dests)]


def _make(store: ChainStore, signer: int, place: int, call: Any) -> Transaction:
    """The signer's transaction with its next nonce plus `place`."""
    found = accounts.read(store, _make_account(signer))
    nonce = found.nonce if found is not None else 0
    return Transaction(TransactionBody(_make_account(signer), nonce + place, call, 0, 0, 0), bytes(64))
