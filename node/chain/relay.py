"""Transactions from and to peers: admitted ones are told to all peers, and theirs are admitted in the same way.

A batch is passed on only after this node checked every signature in it, so a peer that passes on a bad one is to blame.
Gossip waits for that check, which costs each hop some milliseconds. If batches were passed on first, one flooder would
make the whole network check bad signatures, and could not be told from honest forwarders. Transactions that are known
already, or invalid on a slightly different head, are no offence. A flooder is held to a rate and to a share of the
queue.

Only the node that took a transaction from its user publishes it, and repeats it while it waits: gossip may lose it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from consensus.runtime.errors import BadSignature
from node.chain.admission import WAITING_BYTES_MAX, WAITING_MAX, TransactionAdmission
from node.chain.pool import TransactionPool
from node.machine.rate import RateLimit
from node.p2p.acceptance import Acceptance
from proto_specs.codec import encode
from proto_specs.limits import BATCH_TRANSACTIONS_MAX, GOSSIP_BYTES_MAX
from proto_specs.types.chain import Transaction, compute_extrinsic_hash
from proto_specs.types.gossip import TransactionBatch

GATHER_S = 0.05
"""How long a transaction waits for others to share its batch."""
BATCH_BYTES_MAX = GOSSIP_BYTES_MAX // 2
OWN_MAX = 20_000
REPEAT_BLOCKS = 5
REPEAT_S = 5.0
PEER_TRANSACTIONS_PER_S, PEER_BURST_TRANSACTIONS = 4_000, 40_000
"""The rate that one peer may send; the rest is dropped, without effect on other peers."""
PEER_WAITING_BYTES_MAX = 1 << 20
PEER_WAITING_MAX = 2 * BATCH_TRANSACTIONS_MAX
"""The most of one peer's transactions that may wait for admission at once."""
PEERS_WAITING_BYTES_MAX, PEERS_WAITING_MAX = WAITING_BYTES_MAX // 2, WAITING_MAX // 2
"""The most of all peers' transactions that may wait; the other half of the queue is for this node's users."""


class TransactionRelay:
    """`announce` and `receive` may be called from any task of the loop; `run` is the one task that publishes."""

    def __init__(self, pool: TransactionPool, publish: Callable[[TransactionBatch], None]) -> None:
        self._pool = pool
        self._publish = publish
        self._rate = RateLimit(PEER_TRANSACTIONS_PER_S, PEER_BURST_TRANSACTIONS)
        self._admitting: dict[str, tuple[int, int]] = {}
        """Peer -> (transactions, bytes) handed in and not answered yet."""
        self._own: dict[bytes, tuple[Transaction, int]] = {}
        self._waiting: list[Transaction] = []
        self._is_waiting = trio.Event()

    def announce(self, transaction: Transaction) -> None:
        """A user's transaction was admitted here."""
        if len(self._own) < OWN_MAX:
            self._own[compute_extrinsic_hash(transaction)] = (transaction, self._pool.height)
        self._waiting.append(transaction)
        self._is_waiting.set()

    async def receive(self, admission: TransactionAdmission, peer: str, batch: TransactionBatch) -> Acceptance:
        """Admit a peer's transactions; returns the acceptance of the batch once they are checked."""
        if self._rate.take(peer, max(1, len(batch.transactions)), trio.current_time()):
            return Acceptance.IGNORE  # before anything is computed for it
        unknown = [one for one in batch.transactions if compute_extrinsic_hash(one) not in self._pool]
        if not unknown:
            return Acceptance.IGNORE
        count, size_bytes = len(unknown), sum(len(encode(one)) for one in unknown)
        if not self._has_room(peer, count, size_bytes):
            return Acceptance.IGNORE
        self._book(peer, count, size_bytes)
        try:
            ticket = admission.hand_in(unknown, size_bytes, is_own=False)
            await ticket.done.wait()
        finally:
            self._book(peer, -count, -size_bytes)
        if any(isinstance(one, BadSignature) for one in ticket.outcomes):
            return Acceptance.REJECT
        outcomes = zip(unknown, ticket.outcomes, strict=True)
        refused = [one for one, outcome in outcomes if not isinstance(outcome, bytes)]
        if len(refused) == len(unknown):
            return Acceptance.IGNORE
        # A transaction refused before its signature was checked may be valid at the next node; passing it on with a bad
        # signature would then be our fault.
        is_signed = not refused or await trio.to_thread.run_sync(self._are_signed, refused)
        return Acceptance.ACCEPT if is_signed else Acceptance.IGNORE

    def _are_signed(self, transactions: list[Transaction]) -> bool:
        return all(self._pool.is_signature_known_good(one) for one in transactions)

    def _has_room(self, peer: str, count: int, size_bytes: int) -> bool:
        transactions, waiting_bytes = self._admitting.get(peer, (0, 0))
        if transactions + count > PEER_WAITING_MAX or waiting_bytes + size_bytes > PEER_WAITING_BYTES_MAX:
            return False
        all_transactions = sum(one for one, _ in self._admitting.values()) + count
        all_bytes = sum(one for _, one in self._admitting.values()) + size_bytes
        return all_transactions <= PEERS_WAITING_MAX and all_bytes <= PEERS_WAITING_BYTES_MAX

    def _book(self, peer: str, count: int, size_bytes: int) -> None:
        transactions, waiting_bytes = self._admitting.pop(peer, (0, 0))
        if transactions + count:
            self._admitting[peer] = (transactions + count, waiting_bytes + size_bytes)

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            with trio.move_on_after(REPEAT_S):
                await self._is_waiting.wait()
                await trio.sleep(GATHER_S)
            self._is_waiting = trio.Event()
            self._repeat()
            waiting, self._waiting = self._waiting, []
            for batch in _cut(waiting):
                self._publish(batch)

    def _repeat(self) -> None:
        """Publishes own transactions that still wait again every few blocks, and forgets the others."""
        height = self._pool.height
        due = [extrinsic for extrinsic, (_, told) in self._own.items() if told + REPEAT_BLOCKS <= height]
        for extrinsic in due:
            transaction, _ = self._own.pop(extrinsic)
            if extrinsic in self._pool:
                self._own[extrinsic] = (transaction, height)
                self._waiting.append(transaction)


def _cut(transactions: list[Transaction]) -> list[TransactionBatch]:
    """Batches within the bounds of gossip."""
    batches: list[TransactionBatch] = []
    batch: list[Transaction] = []
    size = 0
    for transaction in transactions:
        more = len(encode(transaction))
        if batch and (size + more > BATCH_BYTES_MAX or len(batch) == BATCH_TRANSACTIONS_MAX):
            batches.append(TransactionBatch(tuple(batch)))
            batch, size = [], 0
        batch.append(transaction)
        size += more
    return [*batches, TransactionBatch(tuple(batch))] if batch else batches
