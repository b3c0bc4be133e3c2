"""Keeps one session per model and price open over many requests: so that a request waits for no block.

It opens, tops up before money runs out, replaces before the expiry, and closes what is idle. A request that fits in the
session waits for nothing; only one that does not waits for the chain.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import trio

from node.client.errors import EscrowShort
from node.client.escrow_bank import EscrowBank, SessionTerms, close_left
from node.client.escrow_session import EscrowSession
from node.client.purse import HeldSession, PoolRules, Purse, SessionOrder
from node.client.session_files import SessionFiles
from proto_specs.errors import MyelinError

REFRESH_S = 2.0
"""How often the chain is asked for a session in use."""
REST_S = 30.0
"""The same for one whose orders are all settled, and for what other processes left behind."""
CLOSE_WAIT_S = 3.0
STATE_WAIT_S = 8.0
"""So long the last statements of all sessions may take when everything ends."""
SETTLED_BLOCKS = 128
"""Within so many blocks the last order of a session that closes by itself has settled, or never does."""
RETRY_S = 10.0
"""After a failed background top-up or replacement; a request that needs it tries at once."""

logger = logging.getLogger("myelin.client")
ReportClosed = Callable[[bytes], None]


class Unsettled(Protocol):
    """Finished requests that are to settle together, before their session closes."""

    def count(self, session: bytes) -> int:
        """Requests of a session that wait."""

    async def settle_session(self, session: bytes) -> None:
        """Settle them now. Raises nothing for what cannot be: it settles by itself."""


class _NothingWaits:
    """Each request settles by itself."""

    def count(self, session: bytes) -> int:
        """See Unsettled."""
        return 0

    async def settle_session(self, session: bytes) -> None:
        """See Unsettled."""


@dataclass(slots=True)
class _Errand:
    """A transaction under way for a purse: whoever needs it waits for the same one."""

    done: trio.Event = field(default_factory=trio.Event)
    failure: Exception | None = None


class SessionPool:
    """The sessions of one account. Made by `open_pool` only."""

    def __init__(
        self, bank: EscrowBank, terms: SessionTerms, rules: PoolRules, nursery: trio.Nursery, unsettled: Unsettled
    ) -> None:
        self._unsettled = unsettled
        self._bank = bank
        self._terms = terms
        self._rules = rules
        self._nursery = nursery
        self._purses: dict[tuple[bytes, int], Purse] = {}
        self._jobs: dict[tuple[bytes, int], _Errand] = {}
        self._retry_s: dict[tuple[bytes, int], float] = {}

    async def prepare(self, model: bytes, max_price: int, price: int) -> None:
        """Have a session in which an order of this price fits. Raises EscrowShort, CallFailed, RpcError and others."""
        purse = self._get_purse(model, max_price, price)
        while True:
            held = purse.get_usable(self._terms)
            if held is not None and held.book.unpromised >= price and held.book.requests_left > 0:
                return
            await self._make_room(purse, price)

    async def take(self, model: bytes, max_price: int, price: int) -> SessionOrder:
        """The slice of a new order that may cost `price` nmyl. Raises as `prepare` does. End it with `end`."""
        purse = self._get_purse(model, max_price, price)
        while True:
            held = purse.get_usable(self._terms)
            found = None if held is None else held.book.take(price)
            if held is not None and found is not None:
                held.used_s = trio.current_time()
                self._look_ahead(purse)
                return SessionOrder(held.opened.session, held.opened.key, found, held.funded_s)
            await self._make_room(purse, price)

    def end(self, order: SessionOrder, *, is_vouched: bool, is_signed: bool = True) -> None:
        """The order ended; without a voucher nobody can settle it, and unless all was signed it may be so with one."""
        held = self.find(order.session)
        if held is None:
            return
        held.book.end(order.slice.sequence, is_vouched)
        held.is_unsure = held.is_unsure or (is_vouched and not is_signed)
        held.used_s = trio.current_time()

    def count(self) -> int:
        """Sessions that are not closed yet."""
        return sum(len(purse.retired) + (purse.held is not None) for purse in self._purses.values())

    def find(self, session: bytes) -> HeldSession | None:
        """A session of this pool."""
        for purse in self._purses.values():
            for held in (*purse.retired, *([] if purse.held is None else [purse.held])):
                if held.opened.session == session:
                    return held
        return None

    async def run(self) -> None:
        """Look after the sessions until cancelled."""
        while True:
            await trio.sleep(REFRESH_S)
            try:
                for purse in list(self._purses.values()):
                    await self._tend(purse)
            except MyelinError as error:
                logger.warning("sessions not refreshed: %s", error.message)

    async def close(self) -> None:
        """Give notice of every session, without waiting for long. What does not get through is closed by the next."""
        with trio.move_on_after(STATE_WAIT_S) as scope:
            scope.shield = True
            async with trio.open_nursery() as nursery:
                for purse in self._purses.values():
                    for held in (*purse.retired, *([] if purse.held is None else [purse.held])):
                        nursery.start_soon(self._unsettled.settle_session, held.opened.session)
        with trio.move_on_after(CLOSE_WAIT_S) as scope:
            scope.shield = True
            async with trio.open_nursery() as nursery:
                for purse in self._purses.values():
                    purse.retire()
                    for held in list(purse.retired):
                        nursery.start_soon(self._close_quietly, purse, held)
        for purse in self._purses.values():
            for held in purse.retired:
                if held.ends_by_itself:
                    held.opened.kept.end(held.height + SETTLED_BLOCKS)
                else:
                    held.opened.kept.release()

    def _get_purse(self, model: bytes, max_price: int, price: int) -> Purse:
        purse = self._purses.setdefault((model, max_price), Purse(model, max_price))
        purse.largest = max(purse.largest, price)
        return purse

    async def _make_room(self, purse: Purse, price: int) -> None:
        """Until the next change of the purse's money. Raises what prevented it."""
        key = (purse.model, purse.max_price)
        job = self._jobs.get(key)
        is_mine = job is None
        if job is None:
            held = purse.get_usable(self._terms)
            if held is None or held.book.requests_left < 1:
                job = self._start(key, lambda: self._replace(purse, price))
            else:
                job = self._start(key, lambda: self._top_up(purse, held, price))
        await job.done.wait()
        if is_mine and job.failure is not None:
            raise job.failure

    def _look_ahead(self, purse: Purse) -> None:
        """Begin what will be needed soon, so that no request waits for it."""
        key = (purse.model, purse.max_price)
        held = purse.held
        is_early = trio.current_time() < self._retry_s.get(key, 0.0)
        is_content = self._rules.asks_target < 2 or not self._rules.looks_ahead
        if held is None or key in self._jobs or is_early or is_content:
            return
        if held.is_due(self._terms):
            self._start(key, lambda: self._replace(purse, 0))
        elif purse.is_low(self._rules):
            self._start(key, lambda: self._top_up(purse, held, 0))

    def _start(self, key: tuple[bytes, int], act: Callable[[], Awaitable[None]]) -> _Errand:
        job = self._jobs[key] = _Errand()

        async def run() -> None:
            try:
                await act()
            except MyelinError as error:
                job.failure = error
                self._retry_s[key] = trio.current_time() + RETRY_S
                logger.info("no money for the session: %s", error.message)
            finally:
                del self._jobs[key]
                job.done.set()

        self._nursery.start_soon(run)
        return job

    async def _replace(self, purse: Purse, price: int) -> None:
        deposit = await self._afford(purse.get_target(self._rules, price), max(price, purse.largest))
        opened = await self._bank.open(purse.model, purse.max_price, deposit, self._rules.requests_max)
        now_s = trio.current_time()
        purse.retire()
        book = EscrowSession(opened.deposit, opened.requests_max)
        purse.held = HeldSession(opened, book, used_s=now_s, funded_s=now_s, height=opened.height, looked_s=now_s)

    async def _top_up(self, purse: Purse, held: HeldSession, price: int) -> None:
        """To the target; at least to `price`. First look whether settled requests gave enough back."""
        session = held.opened.session
        held.observe(await self._bank.look(session))
        unpromised = held.book.unpromised
        if held.is_lost or (price and unpromised >= price):
            return
        waiting = self._unsettled.count(session) if self._rules.asks_target > 1 else 0
        amount = purse.get_target(self._rules, price, waiting) - unpromised
        if amount <= 0:
            return
        least = max(1, price - unpromised)
        try:
            amount = await self._afford(amount, least, at_least=0)
        except EscrowShort:
            if not self._unsettled.count(session):
                raise
            await self._unsettled.settle_session(session)  # gives back what it left of the slices
            held.observe(await self._bank.look(session))
            if held.is_lost or held.book.unpromised >= max(1, price):
                return
            raise
        await self._bank.top_up(held.opened.session, amount)
        held.observe(await self._bank.look(held.opened.session))
        held.funded_s = trio.current_time()

    async def _afford(self, wanted: int, needed: int, at_least: int | None = None) -> int:
        """As much of `wanted` as the account has, but `needed`. Raises EscrowShort."""
        floor = self._terms.deposit_min if at_least is None else at_least
        free = await self._bank.read_free()
        needed = max(needed, floor, 1)
        if free < self._terms.compute_needed(needed):
            raise EscrowShort(self._terms.compute_needed(needed), free)
        return max(needed, min(wanted, self._terms.compute_deposit_max(free // 2)))

    async def _tend(self, purse: Purse) -> None:
        now_s = trio.current_time()
        held = purse.held
        if held is not None:
            if now_s - held.looked_s >= (REST_S if held.is_resting else REFRESH_S):
                held.looked_s = now_s
                held.observe(await self._bank.look(held.opened.session))
            is_idle = now_s - held.used_s >= self._rules.idle_s and not held.book.running
            if held.is_lost or is_idle:
                purse.retire()
            else:
                self._look_ahead(purse)
        for one in list(purse.retired):
            if not one.book.running:
                await self._close_one(purse, one)

    async def _close_quietly(self, purse: Purse, held: HeldSession) -> None:
        try:
            await self._close_one(purse, held)
        except MyelinError as error:
            session = held.opened.session.hex()
            logger.warning("session 0x%s is not closed yet, the next run does it: %s", session, error.message)

    async def _close_one(self, purse: Purse, held: HeldSession) -> None:
        sight = await self._bank.look(held.opened.session)
        held.observe(sight)
        if sight is not None and sight.is_settleable:
            await self._unsettled.settle_session(held.opened.session)
            if held.ends_by_itself:
                return
            await self._bank.close(held.opened.session)
        if held in purse.retired:
            purse.retired.remove(held)
            held.opened.kept.delete()


@asynccontextmanager
async def open_pool(
    bank: EscrowBank,
    files: SessionFiles,
    rules: PoolRules,
    report_closed: ReportClosed,
    unsettled: Unsettled | None = None,
) -> AsyncIterator[SessionPool]:
    """A pool for the block. Sessions left open by a process that died are closed meanwhile, and reported.

    `unsettled`: what is settled before a session closes; None: each request settles by itself.
    """

    async def close_abandoned() -> None:
        while True:
            try:
                for session in await close_left(bank, files):
                    report_closed(session)
            except (MyelinError, OSError) as error:
                logger.warning("sessions left behind are not closed: %s", error)
            await trio.sleep(REST_S)

    terms = await bank.read_terms()
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        pool = SessionPool(bank, terms, rules, nursery, unsettled or _NothingWaits())
        nursery.start_soon(pool.run)
        nursery.start_soon(close_abandoned)
        try:
            yield pool
        except Exception as error:
            failure = error  # raised once outside, so that the nursery does not wrap it in a group
        finally:
            nursery.cancel_scope.cancel()
            await pool.close()
    if failure is not None:
        raise failure
