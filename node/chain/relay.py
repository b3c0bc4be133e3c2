"""Transactions from and to peers: what was admitted here is told to everybody, what they tell is admitted likewise.

A batch is passed on only after its signatures were checked here, so whoever passes on a bad one is to blame for it.
Only the node that took a transaction from its user publishes it, and again while it waits: gossip may lose it.
"""

from __future__ import annotations

from collections.abc import Callable

import trio

from consensus.runtime.errors import BadSignature
from node.chain.admission import Admission
from node.chain.pool import TransactionPool
from node.p2p.rate import RateLimit
from node.p2p.verdict import Verdict
from proto_specs.codec import encode
from proto_specs.limits import BATCH_TRANSACTIONS_MAX, GOSSIP_BYTES_MAX
from proto_specs.types.chain import Transaction, compute_extrinsic_hash
from proto_specs.types.gossip import TransactionBatch

GATHER_S = 0.05
"""How long a transaction waits for company."""
BATCH_BYTES_MAX = GOSSIP_BYTES_MAX // 2
OWN_MAX = 20_000
REPEAT_BLOCKS = 5
REPEAT_S = 5.0
PEER_TRANSACTIONS_PER_S, PEER_BURST_TRANSACTIONS = 4_000, 40_000
"""What one peer may bring; more of it is passed over, and nobody else's."""


class Relay:
    """`announce` and `receive` may be called from any task of the loop; `run` is the one task that publishes."""

    def __init__(self, pool: TransactionPool, publish: Callable[[TransactionBatch], None]) -> None:
        self._pool = pool
        self._publish = publish
        self._rate = RateLimit(PEER_TRANSACTIONS_PER_S, PEER_BURST_TRANSACTIONS)
        self._own: dict[bytes, tuple[Transaction, int]] = {}
        self._waiting: list[Transaction] = []
        self._is_waiting = trio.Event()

    def announce(self, transaction: Transaction) -> None:
        """A user's transaction was admitted here."""
        if len(self._own) < OWN_MAX:
            self._own[compute_extrinsic_hash(transaction)] = (transaction, self._pool.height)
        self._waiting.append(transaction)
        self._is_waiting.set()

    async def receive(self, admission: Admission, peer: str, batch: TransactionBatch) -> Verdict:
        """Admit a peer's transactions; what the batch is worth once they are."""
        unknown = [one for one in batch.transactions if compute_extrinsic_hash(one) not in self._pool]
        if not unknown or self._rate.take(peer, len(unknown), trio.current_time()):
            return Verdict.IGNORE
        ticket = admission.hand_in(unknown, sum(len(encode(one)) for one in unknown), is_own=False)
        await ticket.done.wait()
        if any(isinstance(one, BadSignature) for one in ticket.outcomes):
            return Verdict.REJECT
        return Verdict.ACCEPT if any(isinstance(one, bytes) for one in ticket.outcomes) else Verdict.IGNORE

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
        """Own transactions that still wait are told again every few blocks; those that do not are forgotten."""
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
