"""Keys, budgets, rates and the database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
import trio

from node.client.answer import RequestOutcome, Resolution
from node.gateway.accounts.budget import Budgets
from node.gateway.accounts.keys import ApiKey, KeyLimits, create_key, find_key, list_keys, revoke_key
from node.gateway.accounts.rates import KeyRates
from node.gateway.accounts.schema import DATABASE_NAME, DatabaseUnusable, open_database
from node.gateway.accounts.store import AccountStore, StoredRequest, get_day, list_usage, open_store
from node.gateway.errors import ApiRefusal

REQUEST = b"\x01" * 32


def make_row(request: bytes = REQUEST, key: int = 1, price_max: int = 100, created: int = 1_000) -> StoredRequest:
    return StoredRequest(
        *(request, key, get_day(), created, b"s" * 32, b"m" * 32, price_max, "open", 0, 7, 0, Resolution.PENDING)
    )


def make_key(**limits: int) -> ApiKey:
    return ApiKey(1, "a", 0, KeyLimits(**limits), is_revoked=False)  # type: ignore[arg-type]


def test_a_key_is_stored_by_its_hash_alone(tmp_path: Path) -> None:
    path = tmp_path / DATABASE_NAME
    database = open_database(path)
    text = create_key(database, "alice", KeyLimits(5, None, 3, None, ("a", "b")))
    found = find_key(database, text)
    assert found is not None
    assert (found.name, found.limits) == ("alice", KeyLimits(5, None, 3, None, ("a", "b")))
    assert find_key(database, text[:-1] + ("A" if text[-1] != "A" else "B")) is None
    assert find_key(database, "") is None
    assert revoke_key(database, "bob") == 0
    assert revoke_key(database, "alice") == 1
    assert find_key(database, text) is None
    assert [one.is_revoked for one in list_keys(database)] == [True]
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    assert text.removeprefix("sk-myelin-").encode() not in path.read_bytes()


async def test_a_request_is_counted_once_and_corrected_by_the_chain(tmp_path: Path) -> None:
    async with open_store(tmp_path / DATABASE_NAME) as store:
        await store.begin(make_row())
        assert store.read_spent(1, get_day()) == (0, 0)
        for _ in range(2):
            await store.finish(REQUEST, "done", 60, 5)
        assert store.read_spent(1, get_day()) == (60, 60)
        assert [one.request for one in store.list_unresolved()] == [REQUEST]
        await store.resolve(RequestOutcome(REQUEST, Resolution.SETTLED, 3, 60, 0, ()))
        assert store.read_spent(1, get_day()) == (60, 60)
        await store.resolve(RequestOutcome(REQUEST, Resolution.SLASHED, 4, 60, 45, ()))
        assert store.read_spent(1, get_day() + 1) == (15, 0)
        assert store.list_unresolved() == []
    database = open_database(tmp_path / DATABASE_NAME)
    usage = list_usage(database, 0)
    database.close()
    assert [(one.key, one.requests, one.prompt_tokens, one.generated_tokens, one.cost) for one in usage] == [
        (1, 1, 7, 5, 15)
    ]


async def test_what_was_open_costs_its_most_until_the_chain_says_less(tmp_path: Path) -> None:
    async with open_store(tmp_path / DATABASE_NAME) as store:
        await store.begin(make_row())
    async with open_store(tmp_path / DATABASE_NAME) as store:
        assert store.read_spent(1, get_day()) == (100, 100)
        found = store.get_request(REQUEST)
        assert found is not None
        assert found.state == "interrupted"
        await store.resolve(RequestOutcome(REQUEST, Resolution.LOST, 4, 0, 0, ()))
        assert store.read_spent(1, get_day()) == (0, 0)


async def test_many_writers_wait_for_one(tmp_path: Path) -> None:
    async with open_store(tmp_path / DATABASE_NAME) as store:
        async with trio.open_nursery() as nursery:
            for number in range(500):
                nursery.start_soon(store.begin, make_row(number.to_bytes(32, "big")))
        assert store.get_request((499).to_bytes(32, "big")) is not None


async def test_a_write_that_fails_fails_no_other(tmp_path: Path) -> None:
    failed: list[int] = []

    async def begin(store: AccountStore, number: int) -> None:
        try:
            await store.begin(make_row((number % 8).to_bytes(32, "big")))
        except DatabaseUnusable:
            failed.append(number)

    async with open_store(tmp_path / DATABASE_NAME) as store:
        async with trio.open_nursery() as nursery:
            for number in range(9):
                nursery.start_soon(begin, store, number)
        assert len(failed) == 1
        assert all(store.get_request(one.to_bytes(32, "big")) is not None for one in range(8))


async def test_a_database_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    async with open_store(tmp_path / DATABASE_NAME) as store:
        await store.begin(make_row())
        with pytest.raises(DatabaseUnusable):
            await store.begin(make_row())
        assert store.trouble
        await store.check()
        assert not store.trouble
    (tmp_path / "other").write_bytes(b"no database" * 100)
    with pytest.raises(DatabaseUnusable):
        open_database(tmp_path / "other")
    newer = sqlite3.connect(tmp_path / "newer")
    newer.execute("PRAGMA user_version = 9")
    newer.close()
    with pytest.raises(DatabaseUnusable, match="version 9"):
        AccountStore(tmp_path / "newer")


async def test_what_is_set_aside_cannot_be_set_aside_twice(tmp_path: Path) -> None:
    async with open_store(tmp_path / DATABASE_NAME) as store:
        budgets = Budgets(store)
        key = make_key(budget=150)
        budgets.reserve(key, 100)
        with pytest.raises(ApiRefusal) as caught:
            budgets.reserve(key, 51)
        assert (caught.value.status, caught.value.code) == (429, "insufficient_quota")
        budgets.reserve(key, 50)
        assert budgets.reserved == 150
        with pytest.raises(ApiRefusal):
            budgets.check(key, 1)
        budgets.release(key, 150)
        await store.begin(make_row())
        await store.finish(REQUEST, "done", 140, 1)
        budgets.reserve(key, 10)
        daily = make_key(daily_budget=140)
        with pytest.raises(ApiRefusal, match="today"):
            budgets.reserve(daily, 1)
        budgets.reserve(make_key(), 1 << 60)


def test_rates_refill() -> None:
    now = [0.0]
    rates = KeyRates(lambda: now[0])
    key = make_key(requests_a_minute=2, tokens_a_minute=60)
    rates.take_request(key)
    rates.take_request(key)
    with pytest.raises(ApiRefusal) as caught:
        rates.take_request(key)
    assert caught.value.retry_after_s == pytest.approx(30)
    now[0] = 30
    rates.take_request(key)
    rates.take_tokens(key, 10_000)
    with pytest.raises(ApiRefusal):
        rates.take_tokens(key, 1)
    rates.take_tokens(make_key(), 1 << 40)
