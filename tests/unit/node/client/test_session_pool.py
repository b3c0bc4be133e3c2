"""A pool keeps one session over many requests, never lets a request wait that fits, and leaves nothing open."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import trio

from node.client.errors import CallFailed, EscrowShort
from node.client.purse import PoolRules, SessionOrder
from node.client.session_files import SessionFiles, SessionNote
from node.client.session_pool import SessionPool, open_pool
from tests.unit.node.client.banks import FakeBank, make_refusal

MODEL = b"m" * 32
PRICE = 1_000


@pytest.fixture
def files(tmp_path: Path) -> SessionFiles:
    return SessionFiles(tmp_path, b"g" * 32, b"a" * 32)


@pytest.fixture
def bank(files: SessionFiles) -> FakeBank:
    return FakeBank(files)


@dataclass
class Waiting:
    """An `Unsettled`: settling gives back what was left of the slices."""

    bank: FakeBank
    left: int = 0
    waiting: int = 0
    asked: list[bytes] = field(default_factory=list)

    def count(self, session: bytes) -> int:
        return self.waiting

    async def settle_session(self, session: bytes) -> None:
        self.asked.append(session)
        for _ in range(self.waiting):
            self.bank.settle(session, self.left)
        self.waiting = 0


@asynccontextmanager
async def opened(
    bank: FakeBank,
    rules: PoolRules = PoolRules(),  # noqa: B008
    waiting: Waiting | None = None,
) -> AsyncIterator[SessionPool]:
    async with open_pool(bank, bank.files, rules, lambda _session: None, waiting) as pool:
        yield pool


def list_files(bank: FakeBank) -> list[Path]:
    return sorted(bank.files.directory.glob("*.session"))


async def test_many_requests_open_one_session_and_only_the_first_waits(bank: FakeBank, autojump_clock) -> None:
    async with opened(bank) as pool:
        for number in range(50):
            began_s = trio.current_time()
            order = await pool.take(MODEL, 5, PRICE)
            assert trio.current_time() - began_s == (0 if number else pytest.approx(2, abs=0.1))
            pool.end(order, is_vouched=True)
            bank.settle(order.session, PRICE - 300)
            await trio.sleep(3)
        (session,) = bank.sessions
        assert list_files(bank)[0].stat().st_mode & 0o777 == 0o600
    assert bank.closed == [session]
    assert list_files(bank) == []


async def test_it_is_topped_up_before_it_runs_dry(bank: FakeBank, autojump_clock) -> None:
    async with opened(bank, PoolRules(asks_target=8)) as pool:
        await pool.prepare(MODEL, 5, PRICE)
        waited_s = 0.0
        for _ in range(40):
            began_s = trio.current_time()
            order = await pool.take(MODEL, 5, PRICE)
            waited_s += trio.current_time() - began_s
            pool.end(order, is_vouched=True)
            bank.settle(order.session, 0)
            await trio.sleep(2)
        assert waited_s == 0
        assert len(bank.sessions) == 1
        assert bank.top_ups


async def test_a_request_that_does_not_fit_waits_for_the_top_up(bank: FakeBank, autojump_clock) -> None:
    async with opened(bank, PoolRules(asks_target=2)) as pool:
        small = await pool.take(MODEL, 5, PRICE)
        large = await pool.take(MODEL, 5, 20 * PRICE)
        assert small.session == large.session
        assert (large.slice.start, large.slice.end) == (PRICE, 21 * PRICE)
        assert bank.sessions[large.session].promisable >= 21 * PRICE


async def test_requests_at_once_share_one_opening_and_no_position(bank: FakeBank, autojump_clock) -> None:
    orders: list[SessionOrder] = []

    async with opened(bank, PoolRules(asks_target=4)) as pool, trio.open_nursery() as nursery:

        async def take() -> None:
            orders.append(await pool.take(MODEL, 5, PRICE))

        for _ in range(20):
            nursery.start_soon(take)
    assert len(bank.sessions) == 1
    slices = sorted((one.slice for one in orders), key=lambda one: one.start)
    assert all(before.end <= after.start for before, after in pairwise(slices))
    assert len({one.sequence for one in slices}) == 20


async def test_an_account_that_cannot_pay_is_told_what_is_missing(bank: FakeBank, autojump_clock) -> None:
    bank.free = 400
    async with opened(bank) as pool:
        with pytest.raises(
            EscrowShort, match="1000 nmyl have to be escrowed and bonded, and the account has 400 nmyl free"
        ) as short:
            await pool.take(MODEL, 5, PRICE)
        assert (short.value.needed, short.value.free) == (PRICE, 400)
        bank.free = 10_000
        await pool.take(MODEL, 5, PRICE)
    assert list_files(bank) == []


async def test_a_poor_account_still_asks_for_what_it_can(bank: FakeBank, autojump_clock) -> None:
    bank.free = 1_500
    async with opened(bank) as pool:
        await pool.take(MODEL, 5, PRICE)
    assert [one.promisable for one in bank.sessions.values()] == [PRICE]


async def test_a_refused_opening_is_raised_to_whoever_asked(bank: FakeBank, autojump_clock) -> None:
    bank.failures.append(make_refusal())
    async with opened(bank) as pool:
        with pytest.raises(CallFailed, match="UnknownModel"):
            await pool.take(MODEL, 5, PRICE)
        await pool.take(MODEL, 5, PRICE)


async def test_it_is_replaced_before_the_expiry_without_a_wait(bank: FakeBank, autojump_clock) -> None:
    bank.lifetime = 160
    async with opened(bank) as pool:
        first = await pool.take(MODEL, 5, PRICE)
        await trio.sleep(140)  # 18 blocks before the end; workers refuse it at 10
        began_s = trio.current_time()
        second = await pool.take(MODEL, 5, PRICE)
        assert trio.current_time() == began_s
        assert first.session != second.session
        assert bank.closed == [], "a request still runs in the old one"
        pool.end(first, is_vouched=True)
        await trio.sleep(10)
        assert bank.closed == [first.session]


async def test_dead_slices_make_it_be_replaced(bank: FakeBank, autojump_clock) -> None:
    async with opened(bank, PoolRules(asks_target=4)) as pool:
        seen = set()
        for _ in range(12):
            order = await pool.take(MODEL, 5, PRICE)
            seen.add(order.session)
            pool.end(order, is_vouched=False)
            await trio.sleep(5)
        assert len(seen) > 1
        assert bank.closed


async def test_a_session_that_somebody_closed_is_left(bank: FakeBank, autojump_clock) -> None:
    async with opened(bank) as pool:
        order = await pool.take(MODEL, 5, PRICE)
        pool.end(order, is_vouched=True)
        bank.sessions[order.session].is_open = False
        await trio.sleep(5)
        assert (await pool.take(MODEL, 5, PRICE)).session != order.session


async def test_an_idle_session_is_closed_and_the_next_request_opens_another(bank: FakeBank, autojump_clock) -> None:
    async with opened(bank, PoolRules(idle_s=100)) as pool:
        order = await pool.take(MODEL, 5, PRICE)
        await trio.sleep(300)
        assert bank.closed == [], "its request runs"
        pool.end(order, is_vouched=True)
        await trio.sleep(150)
        assert bank.closed == [order.session]
        assert list_files(bank) == []
        assert (await pool.take(MODEL, 5, PRICE)).session != order.session


async def test_prices_and_models_have_sessions_of_their_own(bank: FakeBank, autojump_clock) -> None:
    async with opened(bank) as pool:
        orders = [await pool.take(*key, PRICE) for key in ((MODEL, 5), (MODEL, 6), (b"n" * 32, 5), (MODEL, 5))]
    assert len({one.session for one in orders}) == 3


async def test_a_session_for_one_request_closes_by_itself(bank: FakeBank, autojump_clock) -> None:
    async with opened(bank, PoolRules(asks_target=1, requests_max=1)) as pool:
        order = await pool.take(MODEL, 5, PRICE)
        pool.end(order, is_vouched=True)
    assert bank.closed == []
    assert len(list_files(bank)) == 1, "until it is known to be closed"
    bank.sessions[order.session].is_open = False
    async with opened(bank):
        await trio.sleep(1)
    assert list_files(bank) == []
    assert bank.closed == []


async def test_a_session_whose_only_request_may_never_settle_is_closed(bank: FakeBank, autojump_clock) -> None:
    async with opened(bank, PoolRules(asks_target=1, requests_max=1)) as pool:
        order = await pool.take(MODEL, 5, PRICE)
        pool.end(order, is_vouched=True, is_signed=False)
    assert bank.closed == [order.session]


async def test_what_a_dead_process_left_is_closed_and_reported_once(bank: FakeBank, autojump_clock) -> None:
    left = await bank.open(MODEL, 5, PRICE, 10)
    left.kept.release()  # as the end of a process does
    reported: list[bytes] = []
    for _ in range(2):
        async with open_pool(bank, bank.files, PoolRules(), reported.append):
            await trio.sleep(5)
    assert reported == bank.closed == [left.session]
    assert list_files(bank) == []


async def test_a_session_in_use_by_another_process_is_left_alone(bank: FakeBank, autojump_clock) -> None:
    used = await bank.open(MODEL, 5, PRICE, 10)
    async with opened(bank):
        await trio.sleep(100)
    assert bank.closed == []
    used.kept.release()


async def test_an_opening_that_may_still_come_is_waited_for(bank: FakeBank, autojump_clock) -> None:
    note = SessionNote(b"\x01" * 32, bytes(32), MODEL, bank.height + 50)
    bank.files.keep(note).release()
    async with opened(bank):
        await trio.sleep(20)
        assert len(list_files(bank)) == 1
        await trio.sleep(100)
        assert list_files(bank) == []


async def test_the_end_waits_for_no_chain_that_stands_still(bank: FakeBank, autojump_clock) -> None:
    async def stand(_session: bytes) -> None:
        await trio.sleep_forever()

    async with opened(bank) as pool:
        order = await pool.take(MODEL, 5, PRICE)
        pool.end(order, is_vouched=True)
        bank.close = stand  # type: ignore[method-assign]
        ended_s = trio.current_time()
    assert trio.current_time() - ended_s < 5
    assert len(list_files(bank)) == 1


async def test_an_error_of_the_block_comes_through_unwrapped(bank: FakeBank, autojump_clock) -> None:
    async def fail() -> None:
        async with opened(bank) as pool:
            await pool.take(MODEL, 5, PRICE)
            raise KeyError

    with pytest.raises(KeyError):
        await fail()
    assert len(bank.closed) == 1


def test_a_damaged_file_is_named(files: SessionFiles) -> None:
    kept = files.keep(SessionNote(b"\x01" * 32, bytes(32), MODEL, 5))
    kept.release()
    (path,) = files.directory.glob("*.session")
    path.write_bytes(b"{")
    with pytest.raises(Exception, match="is damaged"):
        list(files.take_left())
    path.unlink()
    assert list(files.take_left()) == []


async def test_what_waits_for_a_statement_is_settled_before_its_session_closes(bank: FakeBank, autojump_clock) -> None:
    waiting = Waiting(bank)
    async with opened(bank, PoolRules(idle_s=100), waiting) as pool:
        order = await pool.take(MODEL, 5, PRICE)
        pool.end(order, is_vouched=True)
        waiting.waiting = 1
        await trio.sleep(110)
        assert bank.closed == [order.session]
        assert waiting.asked == [order.session]
        assert bank.sessions[order.session].settled == 1
        other = await pool.take(MODEL, 5, PRICE)
        pool.end(other, is_vouched=True)
        waiting.waiting = 1
    assert other.session in waiting.asked
    assert bank.closed == [order.session, other.session]


async def test_the_more_requests_wait_the_more_money_a_top_up_brings(bank: FakeBank, autojump_clock) -> None:
    """Each holds its slice until its statement settles: else the session would be topped up for every few of them."""
    waiting = Waiting(bank)
    async with opened(bank, PoolRules(asks_target=4), waiting) as pool:
        for _ in range(200):
            order = await pool.take(MODEL, 5, PRICE)
            pool.end(order, is_vouched=True)
            waiting.waiting += 1
            await trio.sleep(3)
    assert len(bank.top_ups) < 10
    assert len(bank.sessions) == 1


async def test_an_account_that_is_short_settles_first(bank: FakeBank, autojump_clock) -> None:
    waiting = Waiting(bank, left=PRICE)
    async with opened(bank, PoolRules(asks_target=2), waiting) as pool:
        orders = [await pool.take(MODEL, 5, PRICE) for _ in range(2)]
        for one in orders:
            pool.end(one, is_vouched=True)
        await trio.sleep(10)
        bank.free, waiting.waiting = 0, 2
        bank.sessions[orders[0].session].promisable = 2 * PRICE
        held = pool.find(orders[0].session)
        assert held is not None
        held.book.promisable = 2 * PRICE
        order = await pool.take(MODEL, 5, PRICE)
        assert order.session == orders[0].session
        assert waiting.asked == [order.session]
        await pool.take(MODEL, 5, PRICE)
        with pytest.raises(EscrowShort):
            await pool.take(MODEL, 5, PRICE)
