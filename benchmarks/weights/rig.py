"""A chain in memory on which single calls and blocks are timed, with all their state accesses counted.

Calls go the whole way of a block: decoding, the checks of validity, dispatch, receipt, and the encodings and hashes by
which block, roots and database carry them. Only the check of the signer's signature is left out; it has its own price.
"""

from __future__ import annotations

import bisect
import gc
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.weights.sample import Sample
from consensus.runtime.balances.state import read_account
from consensus.runtime.context import BlockContext
from consensus.runtime.executive import BlockExecution
from consensus.runtime.inference import state as inference
from consensus.runtime.params import state as governance
from consensus.runtime.receipts import ExecutedBlock, Receipt
from consensus.runtime.staking.state import read_validators
from consensus.runtime.staking.turns import read_rotation
from genesis.builder import build_genesis
from genesis.dev import DevIdentity, get_dev_identity
from genesis.spec import ChainSpec
from proto_specs.codec import decode, encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import EXTRINSIC_BYTES_MAX, MORTALITY_BLOCKS_MAX
from proto_specs.types.calls import Remark
from proto_specs.types.chain import (
    Commit,
    CommitSignature,
    Transaction,
    TransactionBody,
    compute_extrinsic_hash,
    compute_transaction_digest,
)

REPEATS_MIN, REPEATS_MAX = 11, 101
ENOUGH_S = 0.06
"""Seconds of repeating, between the least and the most number of repeats."""

BYSTANDER = get_dev_identity("bystander")
"""An account that has money in every rig's genesis and does nothing."""

Items = dict[bytes, bytes]
Run = Callable[[Any], None]


class CountedState:
    """A sorted state in memory that counts its accesses."""

    def __init__(self, items: Items) -> None:
        self.items = items
        self._keys = sorted(items)
        self.reads = self.seeks = self.rows = 0

    def get(self, key: bytes) -> bytes | None:
        """The value under `key`."""
        self.reads += 1
        return self.items.get(key)

    def iterate(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Every item under `prefix`, in order."""
        self.seeks += 1
        for at in range(bisect.bisect_left(self._keys, prefix), len(self._keys)):
            key = self._keys[at]
            if not key.startswith(prefix):
                return
            self.rows += 1
            yield key, self.items[key]

    def apply(self, changes: tuple[tuple[bytes, bytes | None], ...]) -> None:
        """Apply a block's changes."""
        for key, value in changes:
            at = bisect.bisect_left(self._keys, key)
            is_there = at < len(self._keys) and self._keys[at] == key
            if value is None:
                if is_there:
                    del self._keys[at], self.items[key]
                continue
            if not is_there:
                self._keys.insert(at, key)
            self.items[key] = value

    def copy(self, without: tuple[bytes, ...] = ()) -> CountedState:
        """A copy of the state without the items under some prefixes, with its counters at zero."""
        return CountedState({key: value for key, value in self.items.items() if not key.startswith(without)})

    @property
    def counts(self) -> tuple[int, int, int]:
        """(reads, seeks, rows) so far."""
        return self.reads, self.seeks, self.rows


class Rig:
    """A chain. All validators sign its blocks; whose turn it is proposes."""

    def __init__(self, spec: ChainSpec) -> None:
        self.spec = spec
        self.genesis = build_genesis(spec)
        self.state = CountedState(dict(self.genesis.items))
        self.height = 0

    def copy(self) -> Rig:
        """A second chain in the same state."""
        twin = object.__new__(Rig)
        twin.spec, twin.genesis, twin.height = self.spec, self.genesis, self.height
        twin.state = self.state.copy()
        return twin

    def block(self, *calls: tuple[DevIdentity, Any], signed_by: tuple[bytes, ...] | None = None) -> ExecutedBlock:
        """Run a block; every call in it must succeed. `signed_by`: the signers of the parent (default: all)."""
        execution = self._start(self.state, signed_by)
        nonces: dict[bytes, int] = {}
        for who, call in calls:
            nonce = nonces.setdefault(who.account, self.read_nonce(who))
            receipt = execution.apply(self._sign(who, call, nonce))
            nonces[who.account] += 1
            assert receipt.error is None, f"{type(call).__name__}: {receipt.error}"
        executed = execution.finish()
        self.state.apply(executed.changes)
        self.height += 1
        return executed

    def skip_to(self, height: int) -> None:
        """Add empty blocks up to and including `height`."""
        while self.height < height:
            self.block()

    def skip_epochs(self, count: int = 1) -> None:
        """Add empty blocks up to and including the last of an epoch."""
        length = self.spec.params.staking.epoch_blocks
        self.skip_to((self.height // length + count) * length)

    def read_nonce(self, who: DevIdentity) -> int:
        """The account's next nonce."""
        return read_account(self.state, who.account).nonce

    def measure_call(self, who: DevIdentity, call: Any, above: tuple[DevIdentity, Any] | None = None) -> Sample:
        """The extra cost of the call over an empty transaction of the same account, or over `above`, in the next block.

        Both run in turns, again and again, so that a slow moment affects both. The state does not change. The call must
        succeed.
        """
        run, empty = self._make_run(who, call), self._make_run(*(above or (who, Remark(b""))))
        ns, empty_ns = _time(lambda: self._start(self.state), (run, empty))
        return self._count_beside(run, ns) - self._count_beside(empty, empty_ns)

    def measure_transaction(self, who: DevIdentity) -> Sample:
        """The cost of an empty mortal transaction, whose birth block is looked up, without its signature's check."""
        assert self.height > 1, "the parent's hash is known without looking"
        empty = self._make_run(who, Remark(b""), period_blocks=MORTALITY_BLOCKS_MAX)
        (ns,) = _time(lambda: self._start(self.state), (empty,))
        return self._count_beside(empty, ns) - self._count_beside(lambda execution: None, 0)

    def measure_hooks(self) -> Sample:
        """The cost of what falls due at the next block's start or end, above a block in which nothing does."""
        height = self.height + 1
        idle = self.state.copy((inference.due.key(height), governance.due.key(height)))
        return self._measure_empty(self.state) - self._measure_empty(idle)

    def measure_block(self) -> Sample:
        """The cost of the next block without transactions."""
        return self._measure_empty(self.state)

    def _measure_empty(self, state: CountedState) -> Sample:
        def run(_: None) -> None:
            encode(self._start(state).finish().events)

        (ns,) = _time(lambda: None, (run,))
        return self._count(state, lambda execution: None, ns)

    def _make_run(self, who: DevIdentity, call: Any, period_blocks: int = 0) -> Run:
        raw = encode(self._sign(who, call, self.read_nonce(who), period_blocks))

        def run(execution: BlockExecution) -> None:
            transaction = decode(Transaction, raw, EXTRINSIC_BYTES_MAX)
            receipt = execution.apply(transaction)
            assert receipt.error is None, f"{type(call).__name__}: {receipt.error}"
            _carry(transaction, receipt)

        return run

    def _count_beside(self, run: Run, ns: int) -> Sample:
        """Count beside another account's transaction, so that the first accesses of any block are left out."""

        def both(execution: BlockExecution) -> None:
            execution.apply(self._sign(BYSTANDER, Remark(b""), 0))
            run(execution)

        return self._count(self.state, both, ns)

    def _count(self, state: CountedState, run: Run, ns: int) -> Sample:
        before = state.counts
        execution = self._start(state)
        run(execution)
        changes = execution.finish().changes
        reads, seeks, rows = (after - earlier for after, earlier in zip(state.counts, before, strict=True))
        return Sample(ns, reads, seeks, rows, len(changes))

    def _start(self, state: CountedState, signed_by: tuple[bytes, ...] | None = None) -> BlockExecution:
        return BlockExecution(state, self._make_context(signed_by), (), self._is_signed)

    def _is_signed(self, transaction: Transaction, extrinsic: bytes, birth_hash: bytes) -> bool:
        """Do all the work of a signature's check except the check."""
        compute_transaction_digest(transaction, self.genesis.hash, birth_hash)
        return True

    def _make_context(self, signed_by: tuple[bytes, ...] | None) -> BlockContext:
        height = self.height + 1
        members = read_validators(self.state).members
        signers = tuple(member.key for member in members) if signed_by is None else signed_by
        parent = self._hash(self.height)
        commit = Commit(self.height, 0, parent, tuple(CommitSignature(key, bytes(64)) for key in signers))
        return BlockContext(
            height=height,
            time_ms=self.spec.genesis_time_ms + height * self.spec.block_interval_ms,
            proposer=read_rotation(self.state).get_proposer(),
            beacon=hash_tagged(Tag.BEACON, height.to_bytes(8, "big")),
            genesis=self.genesis.hash,
            parent_hash=parent,
            last_commit=commit if self.height else None,
        )

    def _hash(self, height: int) -> bytes:
        return hash_tagged(Tag.HEADER, height.to_bytes(8, "big")) if height else self.genesis.hash

    def _sign(self, who: DevIdentity, call: Any, nonce: int, period_blocks: int = 0) -> Transaction:
        """A transaction with a signature of zeros; a mortal transaction is born in block 1."""
        birth_height = 1 if period_blocks else 0
        return Transaction(TransactionBody(who.account, nonce, call, 0, birth_height, period_blocks), bytes(64))


def _carry(transaction: Transaction, receipt: Receipt) -> None:
    """Do a block's work with a transaction besides running it: body root and block, receipts root and receipts, and the
    index by its hash.
    """
    encode(transaction)
    encode(transaction)
    compute_extrinsic_hash(transaction)
    encode(receipt)
    encode(receipt)


def _time(prepare: Callable[[], Any], runs: Sequence[Run]) -> list[int]:
    """ns of CPU time of each of `runs`, in turns, without preparation. The first turn warms up."""
    taken: list[list[int]] = [[] for _ in runs]
    gc.collect()
    gc.disable()
    try:
        until_s = time.monotonic() + ENOUGH_S
        while len(taken[0]) <= REPEATS_MIN or (len(taken[0]) <= REPEATS_MAX and time.monotonic() < until_s):
            for place, run in enumerate(runs):
                prepared = prepare()
                started = time.thread_time_ns()
                run(prepared)
                taken[place].append(time.thread_time_ns() - started)
    finally:
        gc.enable()
    return [compute_quiet(found[1:]) for found in taken]


def compute_quiet(taken: Sequence[float]) -> int:
    """The lower quartile: other work on the machine can only add to a time."""
    return round(statistics.quantiles(taken, n=4, method="inclusive")[0])
