"""Measures single parts of the path: executing a block, the root of a large state, signatures. Medians."""

from __future__ import annotations

import bisect
import dataclasses
import os
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import trio

from consensus.runtime.balances.state import Account, accounts
from consensus.runtime.context import BlockContext
from consensus.runtime.executive import execute_block
from consensus.state.tree import EMPTY_ROOT, update
from genesis.builder import build_genesis
from genesis.dev import build_dev_spec, get_dev_identity
from node.signatures.jobs import SignatureJob
from node.signatures.processes import SignatureProcesses
from node.store.chain_store import CACHED_PAGES_DEPTH
from node.store.columns import Column
from node.store.database import Database
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.calls import Transfer
from proto_specs.types.chain import TransactionBody, sign_transaction

ACCOUNTS = 1_000_000
DIRTY = 1_000
REPEATS = 15
_CHUNK = 50_000


def measure_execution(transfers: int = 4_000, repeats: int = 7) -> dict[str, Any]:
    """Transfers a second through `execute_block`, without signature checks and state root, with the state in memory."""
    names = tuple(f"payer-{number}" for number in range(1_000))
    spec = build_dev_spec(names=names)
    system = dataclasses.replace(spec.params.system, block_weight_max=10**12, block_bytes_max=2 << 20)
    spec = dataclasses.replace(spec, params=dataclasses.replace(spec.params, system=system))
    genesis = build_genesis(spec)
    state = _ItemState(dict(genesis.items))
    identities = [get_dev_identity(name) for name in names]
    transactions = []
    for number in range(transfers):
        source, dest = identities[number % 1_000], identities[(number * 7 + 1) % 1_000]
        body = TransactionBody(source.account, number // 1_000, Transfer(dest.account, 1_000_000), 0, 0, 0)
        transactions.append(sign_transaction(body, genesis.hash, genesis.hash, source.account_key))
    proposer = get_dev_identity("alice").consensus_key.public_key
    context = BlockContext(1, spec.genesis_time_ms + 1_000, proposer, bytes(32), genesis.hash, genesis.hash, None)

    def run() -> None:
        done = execute_block(state, context, (), transactions, is_signed=lambda *_: True)
        assert all(one.error is None for one in done.receipts), "transfers succeed"

    taken = _time(run, repeats)
    return {"transfers": transfers, "median_per_s": round(transfers / taken["median_s"]), **taken}


def measure_state_root(directory: Path) -> dict[str, Any]:
    """Milliseconds to the root of a block that changes 1,000 of 1,000,000 accounts, in memory and in LevelDB."""
    pages, root = build_pages(ACCOUNTS)
    found: dict[str, Any] = {"accounts": ACCOUNTS, "dirty": DIRTY, "pages": len(pages)}
    found["memory"] = _time_roots(pages.get, root, REPEATS)
    database = Database(directory / "db")
    items: list[tuple[bytes, bytes | None]] = [(Column.TREE.value + path, page) for path, page in pages.items()]
    for at in range(0, len(items), _CHUNK):
        database.write(items[at : at + _CHUNK])
    del pages, items
    database.close()
    database = Database(directory / "db")
    read = _PageReader(database)
    found["leveldb_first"] = _time_roots(read, root, 1)
    found["leveldb"] = _time_roots(read, root, REPEATS)
    database.close()
    return found


def build_pages(count: int) -> tuple[dict[bytes, bytes], bytes]:
    """Every page of the tree over `count` accounts, and its root."""
    pages: dict[bytes, bytes] = {}
    root = EMPTY_ROOT
    value = encode(Account(1, 10**12, 0))
    for at in range(0, count, _CHUNK):
        done = update(pages.get, root, [(make_key(number), value) for number in range(at, min(at + _CHUNK, count))])
        root = done.root
        for path, page in done.node_writes.items():
            if page is None:
                pages.pop(path, None)
            else:
                pages[path] = page
    return pages, root


def make_key(number: int) -> bytes:
    """The state key of account number `number`."""
    return accounts.key(hash_tagged(Tag.PAYLOAD, number.to_bytes(8, "big")))


def measure_signatures(count: int = 4_000) -> dict[str, Any]:
    """Checks a second in this process, and distributed over a process for each core."""
    key = get_dev_identity("alice").account_key
    jobs = []
    for number in range(count):
        payload = number.to_bytes(8, "big")
        signature = key.sign(Tag.EXTRINSIC_SIGN, payload)
        jobs.append(SignatureJob(key.public_key, hash_tagged(Tag.EXTRINSIC_SIGN, payload), signature))

    async def check(processes: int) -> dict[str, Any]:
        pool = SignatureProcesses(processes)
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            await pool.check(jobs[:100])
            taken = []
            for _ in range(7):
                started_s = time.perf_counter()
                assert all(await pool.check(jobs))
                taken.append(time.perf_counter() - started_s)
            nursery.cancel_scope.cancel()
        return {"processes": processes, "per_s": round(count / statistics.median(taken))}

    return {"one": trio.run(check, 1), "all": trio.run(check, len(os.sched_getaffinity(0)))}


def _time_roots(read: Callable[[bytes], bytes | None], root: bytes, repeats: int) -> dict[str, Any]:
    random_ = random.Random(1)
    taken, written = [], []
    for repeat in range(repeats):
        numbers = random_.sample(range(ACCOUNTS), DIRTY)
        value = encode(Account(2, 10**12 + repeat, 0))
        dirty = [(make_key(number), value) for number in numbers]
        started_s = time.perf_counter()
        done = update(read, root, dirty)
        taken.append(time.perf_counter() - started_s)
        written.append(len(done.node_writes))
    return {"median_ms": round(statistics.median(taken) * 1e3, 2), "pages_written": statistics.median(written)}


def _time(run: Callable[[], None], repeats: int) -> dict[str, Any]:
    taken = []
    for _ in range(repeats):
        started_s = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started_s)
    return {"median_s": round(statistics.median(taken), 5), "repeats": repeats}


class _PageReader:
    """Reads a database's pages as the chain's store does: the upper pages stay in memory once read."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: dict[bytes, bytes] = {}

    def __call__(self, path: bytes) -> bytes | None:
        found = self._kept.get(path)
        if found is None:
            found = self._database.get(Column.TREE.value + path)
            if found is not None and len(path) <= CACHED_PAGES_DEPTH:
                self._kept[path] = found
        return found


class _ItemState:
    """A state in a dict with its keys sorted once, so that reading a prefix costs as in a database."""

    def __init__(self, items: dict[bytes, bytes]) -> None:
        self._items = items
        self._keys = sorted(items)

    def get(self, key: bytes) -> bytes | None:
        return self._items.get(key)

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        for at in range(bisect.bisect_left(self._keys, prefix), len(self._keys)):
            key = self._keys[at]
            if not key.startswith(prefix):
                return
            yield key, self._items[key]
