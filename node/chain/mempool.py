"""Transactions that wait for a block: bounded, in nonce order per account, by price across accounts. No IO, no clock.

The price of a transaction is its tip per weight: what a proposer earns for the room it takes. The pool takes a
transaction only if its account can pay fees and tips of all its waiting ones, so an empty account fills no pool.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from consensus.runtime.errors import CannotPayFee, InvalidTransaction
from consensus.runtime.validity import TransactionValidity
from proto_specs.types.chain import Transaction

TRANSACTIONS_MAX = 20_000
BYTES_MAX = 32 << 20
PER_ACCOUNT_MAX = 8_192
NONCE_GAP_MAX = 64
TTL_BLOCKS = 600
REPLACE_PERMILLE = 1_100
"""A replacement tips at least 110 % of what it replaces (and at least one nmyl more)."""
_PRICE_UNIT = 1_000_000
_STALE_TAILS_MAX = 1_024


_Tail = tuple[int, int, bytes, int]
"""(price, -arrival, signer, nonce)."""


class PoolRefused(InvalidTransaction):
    """The transaction could be valid, but the pool does not take it."""

    reason = "PoolRefused"


class AlreadyKnown(PoolRefused):
    """The transaction is in the pool already."""

    reason = "AlreadyKnown"


class ReplacementUnderpriced(PoolRefused):
    """Another transaction of this nonce waits and tips too much to be replaced."""

    reason = "ReplacementUnderpriced"


class PoolFull(PoolRefused):
    """The pool is full, and every transaction in it pays at least as much."""

    reason = "PoolFull"


class NonceTooFar(PoolRefused):
    """The nonce leaves too large a gap, or the account has too many transactions waiting."""

    reason = "NonceTooFar"


class Ledger(Protocol):
    """The pool's questions about the state after the last block."""

    def read_account(self, account: bytes) -> tuple[int, int]:
        """(next nonce, free nmyl)."""

    def compute_fee(self, size_bytes: int, weight: int) -> int:
        """Fee in nmyl, without tip, in the next block."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A waiting transaction. `price` is micro-nmyl of tip per weight; `arrival` orders equals."""

    transaction: Transaction
    extrinsic: bytes
    size_bytes: int
    weight: int
    tip: int
    price: int
    added_height: int
    expires_height: int | None
    arrival: int

    @property
    def rank(self) -> tuple[int, int]:
        """The sort key: smaller comes sooner."""
        return (-self.price, self.arrival)

    def is_outdated(self, height: int) -> bool:
        """Whether the transaction expires before block `height + 1` or has waited too long."""
        is_expired = self.expires_height is not None and self.expires_height <= height
        return is_expired or self.added_height + TTL_BLOCKS <= height


@dataclass(slots=True)
class _Queue:
    """One account's transactions by nonce; `tail` is the last nonce, `cost` what they pay together.

    Everything from `expected` up to `gap` waits here.
    """

    expected: int
    gap: int = 0
    tail: int = 0
    cost: int = 0
    waiting: dict[int, Entry] = field(default_factory=dict)
    costs: dict[int, int] = field(default_factory=dict)


class Mempool:
    """The pool of one node."""

    def __init__(self, transactions_max: int = TRANSACTIONS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._transactions_max = transactions_max
        self._bytes_max = bytes_max
        self._queues: dict[bytes, _Queue] = {}
        self._by_hash: dict[bytes, Entry] = {}
        self._bytes = 0
        self._arrivals = 0
        # The last transaction of each account, cheapest first; stale ones are skipped.
        self._tails: list[_Tail] = []

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, extrinsic: bytes) -> bool:
        return extrinsic in self._by_hash

    def __iter__(self) -> Iterator[Transaction]:
        return (one.transaction for one in self._by_hash.values())

    @property
    def size_bytes(self) -> int:
        """Bytes of all waiting transactions."""
        return self._bytes

    def add(self, transaction: Transaction, validity: TransactionValidity, height: int) -> None:
        """Take a transaction validated against the state after block `height`; all or nothing.

        Raises AlreadyKnown, ReplacementUnderpriced, NonceTooFar, CannotPayFee, PoolFull.
        """
        if validity.extrinsic in self._by_hash:
            raise AlreadyKnown("this transaction is in the pool already")
        queue = self._queues.get(validity.signer) or _Queue(validity.expected_nonce)
        old = queue.waiting.get(validity.nonce)
        self._check_place(validity, queue, old)
        cost = validity.fee + validity.tip
        needed = queue.cost - queue.costs.get(validity.nonce, 0) + cost
        if needed > validity.free:
            raise CannotPayFee(
                f"with what waits already {needed} nmyl are needed for fees, {validity.free} are free",
                needed=needed,
                free=validity.free,
            )
        entry = self._make_entry(transaction, validity, height)
        self._make_room(entry, old)
        if old is not None:
            self._remove(old)
        self._insert(entry, cost, validity.expected_nonce)

    def select(self, weight_max: int, bytes_max: int) -> Iterator[Transaction]:
        """Transactions for a block of that room: best first, each account's in order of its nonces without a gap.

        A transaction too large for any block of that room (a later vote made blocks smaller) is skipped with
        its account's later ones. Ending the selection there would leave blocks empty until it ages out.
        """
        heap = [
            (first.rank, signer, queue.expected)
            for signer, queue in self._queues.items()
            if (first := queue.waiting.get(queue.expected)) is not None
        ]
        heapq.heapify(heap)
        weight = size_bytes = 0
        while heap:
            _, signer, nonce = heapq.heappop(heap)
            waiting = self._queues[signer].waiting
            entry = waiting[nonce]
            if entry.weight > weight_max or entry.size_bytes > bytes_max:
                continue
            weight += entry.weight
            size_bytes += entry.size_bytes
            if weight > weight_max or size_bytes > bytes_max:
                return
            yield entry.transaction
            following = waiting.get(nonce + 1)
            if following is not None:
                heapq.heappush(heap, (following.rank, signer, nonce + 1))

    def get_next_nonce(self, signer: bytes, account_nonce: int) -> int:
        """The first nonce of an account that is neither used nor waiting."""
        queue = self._queues.get(signer)
        if queue is None:
            return account_nonce
        gap = max(queue.gap, account_nonce)
        while gap in queue.waiting:
            gap += 1
        queue.gap = gap
        return gap

    def advance(self, height: int, ledger: Ledger) -> None:
        """After block `height`: drop transactions that it included or outdated or that their account cannot pay now."""
        for signer, queue in list(self._queues.items()):
            queue.expected, left = ledger.read_account(signer)
            queue.cost = 0
            for nonce in sorted(queue.waiting):
                entry = queue.waiting[nonce]
                cost = ledger.compute_fee(entry.size_bytes, entry.weight) + entry.tip
                queue.costs[nonce] = cost
                queue.cost += cost
                if nonce < queue.expected or entry.is_outdated(height) or left < cost:
                    self._remove(entry)
                else:
                    left -= cost

    def remove(self, extrinsic: bytes) -> bool:
        """Forget a waiting transaction; returns whether there was one. The account's later ones wait for its nonce."""
        entry = self._by_hash.get(extrinsic)
        if entry is not None:
            self._remove(entry)
        return entry is not None

    def _check_place(self, validity: TransactionValidity, queue: _Queue, old: Entry | None) -> None:
        if old is not None:
            needed = max(old.tip + 1, -(-old.tip * REPLACE_PERMILLE // 1_000))
            if validity.tip < needed:
                raise ReplacementUnderpriced(
                    f"nonce {validity.nonce} is taken; to replace it, tip at least {needed} nmyl", needed=needed
                )
            return
        following = self.get_next_nonce(validity.signer, validity.expected_nonce)
        if validity.nonce > following + NONCE_GAP_MAX or len(queue.waiting) >= PER_ACCOUNT_MAX:
            raise NonceTooFar(
                f"nonce {validity.nonce} is too far from {following}, or {len(queue.waiting)} are waiting already",
                expected=following,
            )

    def _make_entry(self, transaction: Transaction, validity: TransactionValidity, height: int) -> Entry:
        self._arrivals += 1
        return Entry(
            transaction=transaction,
            extrinsic=validity.extrinsic,
            size_bytes=validity.size_bytes,
            weight=validity.weight,
            tip=validity.tip,
            price=validity.tip * _PRICE_UNIT // max(validity.weight, 1),
            added_height=height,
            expires_height=validity.expires_height,
            arrival=self._arrivals,
        )

    def _make_room(self, entry: Entry, replaced: Entry | None) -> None:
        """Drop the cheapest until `entry` fits. Raises PoolFull, and drops nothing, when it would not pay more.

        Only an account's last transaction may go, so that no remaining one waits for a dropped nonce; and none of the
        newcomer's own account.
        """
        dropped: list[tuple[Entry, int, int]] = []
        own: list[_Tail] = []
        try:
            while self._is_over(entry, replaced):
                worst = self._pop_tail(entry.transaction.body.signer, own)
                if worst is None or worst.price >= entry.price:
                    if worst is not None:
                        self._push_tail(worst)
                    for one, cost, expected in reversed(dropped):
                        self._insert(one, cost, expected)
                    needed = ((worst or entry).price + 1) * entry.weight // _PRICE_UNIT + 1
                    raise PoolFull(f"the pool is full; tip at least {needed} nmyl", needed=needed)
                queue = self._queues[worst.transaction.body.signer]
                dropped.append((worst, queue.costs[worst.transaction.body.nonce], queue.expected))
                self._remove(worst)
        finally:
            for tail in own:
                heapq.heappush(self._tails, tail)

    def _is_over(self, entry: Entry, replaced: Entry | None) -> bool:
        count = len(self._by_hash) + (0 if replaced else 1)
        size_bytes = self._bytes + entry.size_bytes - (replaced.size_bytes if replaced else 0)
        return count > self._transactions_max or size_bytes > self._bytes_max

    def _pop_tail(self, own_signer: bytes, own: list[_Tail]) -> Entry | None:
        """The cheapest transaction that may go; those of `own_signer` are set aside in `own`."""
        while self._tails:
            tail = heapq.heappop(self._tails)
            _, negative_arrival, signer, nonce = tail
            queue = self._queues.get(signer)
            if queue is None or nonce != queue.tail or queue.waiting[nonce].arrival != -negative_arrival:
                continue
            if signer == own_signer:
                own.append(tail)
                continue
            return queue.waiting[nonce]
        return None

    def _push_tail(self, entry: Entry) -> None:
        heapq.heappush(self._tails, _make_tail(entry))
        if len(self._tails) > 2 * len(self._queues) + _STALE_TAILS_MAX:
            self._tails = [_make_tail(queue.waiting[queue.tail]) for queue in self._queues.values()]
            heapq.heapify(self._tails)

    def _insert(self, entry: Entry, cost: int, expected: int) -> None:
        body = entry.transaction.body
        queue = self._queues.setdefault(body.signer, _Queue(expected))
        queue.expected = expected
        queue.waiting[body.nonce] = entry
        queue.costs[body.nonce] = cost
        queue.cost += cost
        self._by_hash[entry.extrinsic] = entry
        self._bytes += entry.size_bytes
        if body.nonce >= queue.tail:
            queue.tail = body.nonce
            self._push_tail(entry)

    def _remove(self, entry: Entry) -> None:
        body = entry.transaction.body
        queue = self._queues[body.signer]
        queue.gap = min(queue.gap, body.nonce)
        del queue.waiting[body.nonce]
        queue.cost -= queue.costs.pop(body.nonce)
        del self._by_hash[entry.extrinsic]
        self._bytes -= entry.size_bytes
        if not queue.waiting:
            del self._queues[body.signer]
        elif body.nonce == queue.tail:
            queue.tail = max(queue.waiting)
            self._push_tail(queue.waiting[queue.tail])


def _make_tail(entry: Entry) -> _Tail:
    body = entry.transaction.body
    return entry.price, -entry.arrival, body.signer, body.nonce
