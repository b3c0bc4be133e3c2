"""How submitted transactions get into the pool: in order of arrival, with their signatures checked in batches.

Cheap checks come first, so that a hopeless transaction costs no signature check. Other processes check a batch's
signatures while the next batch is prepared; then each transaction is admitted, or refused with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import trio

from consensus.runtime.errors import InvalidTransaction
from node.chain.mempool import PoolRefused
from node.chain.pool import Prepared, TransactionPool
from node.signatures.processes import SignatureProcesses
from proto_specs.types.chain import Transaction

WAITING_MAX = 16_384
WAITING_BYTES_MAX = 32 << 20
BATCH_MAX = 512

Outcome = bytes | InvalidTransaction
"""The transaction's hash once it is in the pool, or the reason of its refusal."""


class PoolBusy(PoolRefused):
    """The queue for admission is full: try again."""

    reason = "PoolBusy"


@dataclass(slots=True)
class Ticket:
    """Transactions handed in together. When `done` is set, `outcomes` is complete and in their order."""

    transactions: Sequence[Transaction]
    size_bytes: int
    is_own: bool
    outcomes: list[Outcome] = field(default_factory=list)
    done: trio.Event = field(default_factory=trio.Event)


@dataclass(slots=True)
class _Batch:
    tickets: list[Ticket]
    prepared: list[Prepared | InvalidTransaction]
    answers: list[bool] | None = None


class TransactionAdmission:
    """`hand_in` may be called from any task of the loop; `run` is the one task that admits."""

    def __init__(
        self,
        pool: TransactionPool,
        signatures: SignatureProcesses,
        announce: Callable[[Transaction], None] = lambda _transaction: None,
    ) -> None:
        """`announce` is called with every admitted transaction that did not come from a peer."""
        self._pool = pool
        self._announce = announce
        self._signatures = signatures
        self._waiting = 0
        self._waiting_bytes = 0
        self._send, self._receive = trio.open_memory_channel[Ticket](math.inf)

    def hand_in(self, transactions: Sequence[Transaction], size_bytes: int, *, is_own: bool = True) -> Ticket:
        """Queue transactions of `size_bytes` in all, a user's or a peer's. Answers come in call order; a
        full queue is answered at once.
        """
        assert transactions, "somebody waits for the answer"
        ticket = Ticket(transactions, size_bytes, is_own)
        is_full = self._waiting + len(transactions) > WAITING_MAX
        if is_full or self._waiting_bytes + size_bytes > WAITING_BYTES_MAX:
            refusal = PoolBusy(f"{self._waiting} transactions wait to be checked: try again", waiting=self._waiting)
            ticket.outcomes = [refusal for _ in transactions]
            ticket.done.set()
            return ticket
        self._waiting += len(transactions)
        self._waiting_bytes += size_bytes
        self._send.send_nowait(ticket)
        return ticket

    async def run(self) -> None:
        """Admit until cancelled. While one batch is checked, the previous one is admitted and the next one prepared."""
        checked_send, checked = trio.open_memory_channel[_Batch](1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._check, checked_send)
            async for batch in checked:
                self._admit(batch)
                await trio.lowlevel.checkpoint()

    async def _check(self, checked: trio.MemorySendChannel[_Batch]) -> None:
        while True:
            batch = self._prepare(await self._collect())
            jobs = [one.job for one in batch.prepared if isinstance(one, Prepared) and one.job is not None]
            batch.answers = await self._signatures.check(jobs) if jobs else []
            await checked.send(batch)

    async def _collect(self) -> list[Ticket]:
        """The waiting tickets, up to a batch; at least one."""
        tickets = [await self._receive.receive()]
        count = len(tickets[0].transactions)
        while count < BATCH_MAX:
            try:
                tickets.append(self._receive.receive_nowait())
            except trio.WouldBlock:
                break
            count += len(tickets[-1].transactions)
        return tickets

    def _prepare(self, tickets: list[Ticket]) -> _Batch:
        prepared: list[Prepared | InvalidTransaction] = []
        for ticket in tickets:
            for transaction in ticket.transactions:
                try:
                    prepared.append(self._pool.prepare(transaction))
                except InvalidTransaction as error:
                    prepared.append(error)
        return _Batch(tickets, prepared)

    def _admit(self, batch: _Batch) -> None:
        assert batch.answers is not None, "checked"
        answers, outcomes = iter(batch.answers), iter(batch.prepared)
        for ticket in batch.tickets:
            for transaction in ticket.transactions:
                outcome = self._admit_one(next(outcomes), answers)
                ticket.outcomes.append(outcome)
                if ticket.is_own and isinstance(outcome, bytes):
                    self._announce(transaction)
            self._waiting -= len(ticket.transactions)
            self._waiting_bytes -= ticket.size_bytes
            ticket.done.set()

    def _admit_one(self, prepared: Prepared | InvalidTransaction, answers: Iterator[bool]) -> Outcome:
        if isinstance(prepared, InvalidTransaction):
            return prepared
        is_signed = True if prepared.job is None else next(answers)
        try:
            return self._pool.admit(prepared, is_signed=is_signed)
        except InvalidTransaction as error:
            return error
