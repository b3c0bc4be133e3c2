"""Transactions that wait for a block: bounded, in nonce order per account, by price across accounts. No IO, no clock.

The price of a transaction is its tip per weight: what a proposer earns for the room it takes. The pool takes a
transaction only if its account can pay fees and tips of all its waiting ones, so an empty account fills no pool.

A part of the pool is kept as a part of every block is (consensus/runtime/system/space.py): verdicts and settlements
come in whatever common transactions pay, and none of those pushes them out, up to `RESERVED_PERMILLE` of the room for
each of the two. They are offered to a block when it has no room left for what pays more.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.errors import CannotPayFee, InvalidTransaction
from consensus.runtime.system.space import Room, Space
from consensus.runtime.validity import TransactionValidity
from node.chain.tails import Tail, Tails
from proto_specs.types.chain import Transaction

TRANSACTIONS_MAX = 20_000
BYTES_MAX = 32 << 20
PER_ACCOUNT_MAX = 8_192
NONCE_GAP_MAX = 64
TTL_BLOCKS = 600
REPLACE_PERMILLE = 1_100
"""A replacement tips at least 110 % of what it replaces (and at least one nmyl more)."""
RESERVED_PERMILLE = 125
"""The share of the pool that is safe from other parts' transactions, for verdicts and for settlements each."""
RESERVED_PER_ACCOUNT_MAX = 1_024
"""An account's verdicts and settlements above this are as its common transactions."""
_PRICE_UNIT = 1_000_000


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
    space: Space

    @property
    def tail(self) -> Tail:
        """Its place among the last transactions of accounts."""
        return self.price, -self.arrival, self.transaction.body.signer, self.transaction.body.nonce

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
    parts: Counter[Space] = field(default_factory=Counter)

    @property
    def lowest(self) -> Space:
        """The lowest part of a block that any of them is for."""
        return min(space for space, count in self.parts.items() if count)


class Mempool:
    """The pool of one node."""

    def __init__(self, transactions_max: int = TRANSACTIONS_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._transactions_max = transactions_max
        self._bytes_max = bytes_max
        self._queues: dict[bytes, _Queue] = {}
        self._by_hash: dict[bytes, Entry] = {}
        self._bytes = 0
        self._arrivals = 0
        self._tails = Tails()
        self._counts: Counter[Space] = Counter()
        self._sizes: Counter[Space] = Counter()

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
        is_over = queue.parts[validity.space] >= RESERVED_PER_ACCOUNT_MAX
        entry = self._make_entry(transaction, validity, height, Space.COMMON if is_over else validity.space)
        self._make_room(entry, old)
        if old is not None:
            self._remove(old)
        self._insert(entry, cost, validity.expected_nonce)

    def select(self, rooms: Mapping[Space, Room]) -> Iterator[Transaction]:
        """Transactions for a block of these rooms: best first, each account's in order of its nonces without a gap.

        The first without room ends its part of the block and the lower ones. A transaction too large for any block (a
        later vote made blocks smaller) is skipped with its account's later ones. Ending the selection there would leave
        blocks empty until it ages out.
        """
        heap = [
            (first.rank, signer, queue.expected)
            for signer, queue in self._queues.items()
            if (first := queue.waiting.get(queue.expected)) is not None
        ]
        heapq.heapify(heap)
        weight = size_bytes = count = ended = 0
        while heap:
            _, signer, nonce = heapq.heappop(heap)
            waiting = self._queues[signer].waiting
            entry = waiting[nonce]
            room = rooms[entry.space]
            if entry.weight > room.weight or entry.size_bytes > room.bytes or entry.space < ended:
                continue
            is_full = weight + entry.weight > room.weight or size_bytes + entry.size_bytes > room.bytes
            if is_full or count >= room.count:
                ended = entry.space + 1
                if ended > Space.DUTY:
                    return
                continue
            weight, size_bytes, count = weight + entry.weight, size_bytes + entry.size_bytes, count + 1
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

    def _make_entry(self, transaction: Transaction, validity: TransactionValidity, height: int, space: Space) -> Entry:
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
            space=space,
        )

    def _make_room(self, entry: Entry, replaced: Entry | None) -> None:
        """Drop the cheapest until `entry` fits. Raises PoolFull, and drops nothing, when it would not pay more.

        What is within its share of the pool drops common ones at any price, and is dropped only for its like. Only the
        last transaction of an account may go, so that no remaining one waits for a dropped nonce; and none of the
        newcomer's own account.
        """
        dropped: list[tuple[Entry, int, int]] = []
        own: list[tuple[Space, Tail]] = []
        try:
            while self._is_over(entry, replaced):
                is_due = entry.space != Space.COMMON and self._is_within_share(entry.space, entry.size_bytes)
                worst = self._pop_tail(entry, own, (Space.COMMON,)) if is_due else None
                if worst is None:
                    is_due = False
                    spaces = [one for one in Space if one == entry.space or not self._is_within_share(one, 0)]
                    worst = self._pop_tail(entry, own, spaces)
                if worst is None or (not is_due and worst.price >= entry.price):
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
            for space, tail in own:
                self._tails.push(space, tail)

    def _is_within_share(self, space: Space, more_bytes: int) -> bool:
        """Whether a part's transactions are within what is kept for them. Nothing is kept for common ones."""
        if space == Space.COMMON:
            return False
        count, size_bytes = self._counts[space], self._sizes[space] + more_bytes
        return (
            count * PERMILLE <= self._transactions_max * RESERVED_PERMILLE
            and size_bytes * PERMILLE <= self._bytes_max * RESERVED_PERMILLE
        )

    def _is_over(self, entry: Entry, replaced: Entry | None) -> bool:
        count = len(self._by_hash) + (0 if replaced else 1)
        size_bytes = self._bytes + entry.size_bytes - (replaced.size_bytes if replaced else 0)
        return count > self._transactions_max or size_bytes > self._bytes_max

    def _pop_tail(self, newcomer: Entry, own: list[tuple[Space, Tail]], spaces: Iterable[Space]) -> Entry | None:
        """The cheapest transaction of these parts that may go; those of the newcomer's account are set aside."""
        while (found := self._tails.pop(spaces, self._is_last)) is not None:
            _, (_, _, signer, nonce) = found
            if signer != newcomer.transaction.body.signer:
                return self._queues[signer].waiting[nonce]
            own.append(found)
        return None

    def _is_last(self, space: Space, tail: Tail) -> bool:
        _, negative_arrival, signer, nonce = tail
        queue = self._queues.get(signer)
        if queue is None or nonce != queue.tail or space != queue.lowest:
            return False
        return queue.waiting[nonce].arrival == -negative_arrival

    def _push_tail(self, entry: Entry) -> None:
        queue = self._queues[entry.transaction.body.signer]
        self._tails.push(queue.lowest, entry.tail)
        if self._tails.is_stale(len(self._queues)):
            self._tails.renew((one.lowest, one.waiting[one.tail].tail) for one in self._queues.values())

    def _insert(self, entry: Entry, cost: int, expected: int) -> None:
        body = entry.transaction.body
        queue = self._queues.setdefault(body.signer, _Queue(expected))
        queue.expected = expected
        queue.waiting[body.nonce] = entry
        queue.costs[body.nonce] = cost
        queue.cost += cost
        self._by_hash[entry.extrinsic] = entry
        self._count(queue, entry, 1)
        queue.tail = max(queue.tail, body.nonce)
        self._push_tail(queue.waiting[queue.tail])

    def _remove(self, entry: Entry) -> None:
        body = entry.transaction.body
        queue = self._queues[body.signer]
        queue.gap = min(queue.gap, body.nonce)
        del queue.waiting[body.nonce]
        queue.cost -= queue.costs.pop(body.nonce)
        del self._by_hash[entry.extrinsic]
        before = queue.lowest
        self._count(queue, entry, -1)
        if not queue.waiting:
            del self._queues[body.signer]
            return
        is_last = body.nonce == queue.tail
        if is_last:
            queue.tail = max(queue.waiting)
        if is_last or queue.lowest != before:
            self._push_tail(queue.waiting[queue.tail])

    def _count(self, queue: _Queue, entry: Entry, change: int) -> None:
        """Enter or leave the counts of a part."""
        queue.parts[entry.space] += change
        self._counts[entry.space] += change
        self._sizes[entry.space] += change * entry.size_bytes
        self._bytes += change * entry.size_bytes
