"""Transactions that wait for a block: bounded, in nonce order per account, by tip across accounts. No IO, no clock."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from consensus.runtime.errors import InvalidTransaction
from consensus.runtime.validity import TransactionValidity
from proto_specs.types.chain import Transaction, compute_extrinsic_hash

TRANSACTIONS_MAX = 20_000
BYTES_MAX = 32 << 20
PER_ACCOUNT_MAX = 1_024
NONCE_GAP_MAX = 64
TTL_BLOCKS = 600
REPLACE_PERMILLE = 1_100
"""A replacement tips at least 110 % of what it replaces (and at least one nmyl more)."""


class PoolRefused(InvalidTransaction):
    """The transaction could be valid, but the pool does not take it."""

    reason = "PoolRefused"


class AlreadyKnown(PoolRefused):
    """The same transaction is in the pool."""

    reason = "AlreadyKnown"


class ReplacementUnderpriced(PoolRefused):
    """Another transaction of this nonce waits and tips too much to be replaced."""

    reason = "ReplacementUnderpriced"


class PoolFull(PoolRefused):
    """Everything in the pool tips at least as much."""

    reason = "PoolFull"


class NonceTooFar(PoolRefused):
    """The nonce leaves too large a gap, or the account has too many waiting."""

    reason = "NonceTooFar"


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting transaction. `arrival` orders equals."""

    transaction: Transaction
    extrinsic: bytes
    size_bytes: int
    tip: int
    added_height: int
    expires_height: int | None
    arrival: int

    @property
    def rank(self) -> tuple[int, int]:
        """The smaller, the sooner."""
        return (-self.tip, self.arrival)


class Mempool:
    """The pool of one node."""

    def __init__(self, transactions_max: int = TRANSACTIONS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._transactions_max = transactions_max
        self._bytes_max = bytes_max
        self._accounts: dict[bytes, dict[int, Entry]] = {}
        self._by_hash: dict[bytes, Entry] = {}
        self._bytes = 0
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, extrinsic: bytes) -> bool:
        return extrinsic in self._by_hash

    def __iter__(self) -> Iterator[Transaction]:
        return (one.transaction for one in self._by_hash.values())

    def add(self, transaction: Transaction, validity: TransactionValidity, height: int) -> None:
        """Take a validated transaction. Raises AlreadyKnown, ReplacementUnderpriced, NonceTooFar, PoolFull."""
        if validity.extrinsic in self._by_hash:
            raise AlreadyKnown("this transaction is in the pool already")
        waiting = self._accounts.get(validity.signer, {})
        old = waiting.get(validity.nonce)
        if old is not None:
            needed = max(old.tip + 1, old.tip * REPLACE_PERMILLE // 1_000)
            if validity.tip < needed:
                raise ReplacementUnderpriced(
                    f"nonce {validity.nonce} is taken; to replace it, tip at least {needed} nmyl", needed=needed
                )
        elif validity.nonce > validity.expected_nonce + NONCE_GAP_MAX + len(waiting) or len(waiting) >= PER_ACCOUNT_MAX:
            raise NonceTooFar(
                f"nonce {validity.nonce} is too far from {validity.expected_nonce}", expected=validity.expected_nonce
            )
        self._arrivals += 1
        entry = Entry(
            transaction,
            validity.extrinsic,
            validity.size_bytes,
            validity.tip,
            height,
            validity.expires_height,
            self._arrivals,
        )
        if old is None:
            self._make_room(entry)
        else:
            self._remove(old)
        self._accounts.setdefault(validity.signer, {})[validity.nonce] = entry
        self._by_hash[entry.extrinsic] = entry
        self._bytes += entry.size_bytes

    def select(self, next_nonces: dict[bytes, int] | None = None) -> Iterator[Transaction]:
        """Transactions for a block: best first, each account's in order of its nonces without a gap."""
        heap: list[tuple[tuple[int, int], bytes, int]] = []
        for signer, waiting in self._accounts.items():
            first = min(waiting) if next_nonces is None else next_nonces.get(signer, min(waiting))
            if first in waiting:
                heap.append((waiting[first].rank, signer, first))
        heapq.heapify(heap)
        while heap:
            _, signer, nonce = heapq.heappop(heap)
            waiting = self._accounts[signer]
            yield waiting[nonce].transaction
            following = waiting.get(nonce + 1)
            if following is not None:
                heapq.heappush(heap, (following.rank, signer, nonce + 1))

    def get_next_nonce(self, signer: bytes, account_nonce: int) -> int:
        """The first nonce of an account that is neither used nor waiting."""
        waiting = self._accounts.get(signer, {})
        while account_nonce in waiting:
            account_nonce += 1
        return account_nonce

    def advance(self, height: int, included: Iterable[Transaction]) -> None:
        """After block `height`: drop what it included or outdated, and what has waited too long."""
        for transaction in included:
            body = transaction.body
            for nonce in [one for one in self._accounts.get(body.signer, {}) if one <= body.nonce]:
                self._remove(self._accounts[body.signer][nonce])
        for entry in list(self._by_hash.values()):
            is_expired = entry.expires_height is not None and entry.expires_height <= height
            if is_expired or entry.added_height + TTL_BLOCKS <= height:
                self._remove(entry)

    def discard(self, transaction: Transaction) -> None:
        """Drop a transaction that turned out invalid; one that is not here is no error."""
        entry = self._by_hash.get(compute_extrinsic_hash(transaction))
        if entry is not None:
            self._remove(entry)

    def _make_room(self, entry: Entry) -> None:
        """Drop the worst until `entry` fits. Raises PoolFull when it would be the worst itself."""
        while len(self._by_hash) >= self._transactions_max or self._bytes + entry.size_bytes > self._bytes_max:
            # The last nonce of an account alone may go: nothing that stays then waits for what went.
            worst = max((waiting[max(waiting)] for waiting in self._accounts.values()), key=lambda one: one.rank)
            if worst.tip >= entry.tip:
                raise PoolFull(f"the pool is full; tip more than {worst.tip} nmyl", needed=worst.tip + 1)
            self._remove(worst)

    def _remove(self, entry: Entry) -> None:
        body = entry.transaction.body
        waiting = self._accounts[body.signer]
        del waiting[body.nonce]
        if not waiting:
            del self._accounts[body.signer]
        del self._by_hash[entry.extrinsic]
        self._bytes -= entry.size_bytes
