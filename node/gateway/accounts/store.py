"""Requests and usage on disk: one writer, which commits what has come together; reads are answered at once.

A request's row is on disk before its first token leaves, so that a killed gateway forgets nothing that it answered.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from node.client.answer import RequestOutcome, Resolution
from node.gateway.accounts.keys import ApiKey, find_key
from node.gateway.accounts.schema import DatabaseUnusable, open_database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

DAY_S = 86_400
WRITES_WAITING_MAX = 1_024
BATCH_MAX = 256
UNRESOLVED_READ_MAX = 1_000

Write = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True)
class StoredRequest:
    """A request as the database has it. `state` is open, done, failed, cancelled, interrupted or moved.

    `continues`: the request of the same answer that it goes on from.
    """

    request: bytes
    key: int
    day: int
    created: int
    session: bytes
    model: bytes
    price_max: int
    state: str
    cost: int
    prompt_tokens: int
    generated_tokens: int
    resolution: Resolution
    continues: bytes | None = None


@dataclass(frozen=True, slots=True)
class UsageDay:
    """What a key used on a day (number of days since 1970). `cost` in nmyl."""

    key: int
    day: int
    requests: int
    prompt_tokens: int
    generated_tokens: int
    cost: int


class _WriteJob:
    def __init__(self, write: Write) -> None:
        self.write = write
        self.done = trio.Event()
        self.error: Exception | None = None


class AccountStore:
    """The database of a running gateway. `open_store` makes it and runs its writer."""

    def __init__(self, path: Path) -> None:
        """Raises DatabaseUnusable."""
        self._reader = open_database(path)
        self._writer = open_database(path)
        self._send: trio.MemorySendChannel[_WriteJob]
        self._send, self._jobs = trio.open_memory_channel[_WriteJob](WRITES_WAITING_MAX)
        self.trouble = ""

    async def write_jobs(self, scope: trio.CancelScope) -> None:
        """The writer: commits what waits, in one transaction. Runs until `scope` is cancelled."""
        with scope:
            async for first in self._jobs:
                jobs = [first]
                while len(jobs) < BATCH_MAX and self._jobs.statistics().current_buffer_used:
                    jobs.append(self._jobs.receive_nowait())
                await trio.to_thread.run_sync(self._commit, jobs)
                for job in jobs:
                    job.done.set()

    def close(self) -> None:
        """Close the files."""
        self._reader.close()
        self._writer.close()

    async def begin(self, row: StoredRequest) -> None:
        """A request is under way; on return it is on disk. Raises DatabaseUnusable."""
        values = (
            *(row.request, row.key, row.day, row.created, row.session, row.model, row.price_max, row.state, row.cost),
            *(row.prompt_tokens, row.generated_tokens, row.resolution.value, row.continues),
        )
        await self._do(lambda base: _insert(base, values))

    async def finish(self, request: bytes, state: str, cost: int, generated: int) -> None:
        """It is over, at this cost: counted from now on. Raises DatabaseUnusable."""
        resolution = Resolution.PENDING if cost else Resolution.LOST
        await self._do(lambda base: _finish(base, request, (state, cost, generated, resolution.value)))

    async def resolve(self, outcome: RequestOutcome) -> None:
        """The chain says more of it; its cost is what the chain kept. Raises DatabaseUnusable."""
        cost = outcome.price - outcome.returned
        await self._do(lambda base: _resolve(base, outcome.request, outcome.resolution, cost))

    async def close_interrupted(self) -> None:
        """Requests that were open when an earlier run ended cost their highest price, until the chain says less."""
        await self._do(_close_interrupted)

    async def check(self) -> None:
        """Raises DatabaseUnusable unless something can be written."""
        await self._do(lambda base: None)

    def find_key(self, text: str) -> ApiKey | None:
        """The key of this text, as the database has it now."""
        return find_key(self._reader, text)

    def get_request(self, request: bytes) -> StoredRequest | None:
        """One request."""
        row = self._reader.execute("SELECT * FROM requests WHERE request = ?", (request,)).fetchone()
        return None if row is None else _read_request(row)

    def find_continuing(self, request: bytes) -> bytes | None:
        """The request that goes on from this one; the latest, where there are several."""
        row = self._reader.execute(
            "SELECT request FROM requests WHERE continues = ? ORDER BY created DESC LIMIT 1", (request,)
        ).fetchone()
        return None if row is None else bytes(row["request"])

    def list_unresolved(self) -> list[StoredRequest]:
        """Requests that are over and that the chain may say more of, oldest first."""
        rows = self._reader.execute(
            "SELECT * FROM requests WHERE resolution IN ('pending', 'settled') AND state != 'open'"
            " ORDER BY created LIMIT ?",
            (UNRESOLVED_READ_MAX,),
        )
        return [_read_request(one) for one in rows]

    def read_spent(self, key: int, day: int) -> tuple[int, int]:
        """What a key has spent in all, and on a day, in nmyl."""
        row = self._reader.execute(
            "SELECT COALESCE(SUM(cost), 0), COALESCE(SUM(CASE WHEN day = ? THEN cost END), 0) FROM usage WHERE key = ?",
            (day, key),
        ).fetchone()
        return int(row[0]), int(row[1])

    async def _do(self, write: Write) -> None:
        job = _WriteJob(write)
        await self._send.send(job)
        await job.done.wait()
        if job.error is not None:
            raise DatabaseUnusable(f"the gateway's database cannot be written ({job.error}): check the disk")

    def _commit(self, jobs: list[_WriteJob]) -> None:
        """All in one transaction; if that fails each in its own, so that one cannot fail the others."""
        if not self._try_commit(jobs) and len(jobs) > 1:
            for job in jobs:
                self._try_commit([job])

    def _try_commit(self, jobs: list[_WriteJob]) -> bool:
        try:
            self._writer.execute("BEGIN IMMEDIATE")
            for job in jobs:
                job.write(self._writer)
            self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            self.trouble = str(error)
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
            for job in jobs:
                job.error = error
            return False
        self.trouble = ""
        for job in jobs:
            job.error = None
        return True


@asynccontextmanager
async def open_store(path: Path) -> AsyncIterator[AccountStore]:
    """Open the database and run its writer. What an earlier run left open is closed at its highest price.

    Raises DatabaseUnusable.
    """
    store = AccountStore(path)
    try:
        async with trio.open_nursery() as nursery:
            writing = trio.CancelScope(shield=True)  # answers that end when the process does are booked too
            nursery.start_soon(store.write_jobs, writing)
            try:
                await store.close_interrupted()
                yield store
            finally:
                writing.cancel()
    finally:
        store.close()


def get_day(seconds: float | None = None) -> int:
    """The day (UTC, since 1970) of a time, or today's."""
    return int(time.time() if seconds is None else seconds) // DAY_S


def list_usage(database: sqlite3.Connection, first_day: int) -> list[UsageDay]:
    """Usage of all keys from a day on."""
    rows = database.execute("SELECT * FROM usage WHERE day >= ? ORDER BY day, key", (first_day,))
    return [UsageDay(*(one[name] for name in UsageDay.__slots__)) for one in rows]


def _insert(base: sqlite3.Connection, values: tuple[object, ...]) -> None:
    base.execute(f"INSERT INTO requests VALUES ({', '.join('?' * len(values))})", values)


def _finish(base: sqlite3.Connection, request: bytes, values: tuple[object, ...]) -> None:
    done = base.execute(
        "UPDATE requests SET state = ?, cost = ?, generated_tokens = ?, resolution = ?"
        " WHERE request = ? AND state = 'open'",
        (*values, request),
    )
    if done.rowcount:
        base.execute(
            "INSERT INTO usage SELECT key, day, 1, prompt_tokens, generated_tokens, cost"
            " FROM requests WHERE request = ?"
            " ON CONFLICT (key, day) DO UPDATE SET requests = requests + 1, cost = cost + excluded.cost,"
            " prompt_tokens = prompt_tokens + excluded.prompt_tokens,"
            " generated_tokens = generated_tokens + excluded.generated_tokens",
            (request,),
        )


def _resolve(base: sqlite3.Connection, request: bytes, resolution: Resolution, cost: int) -> None:
    row = base.execute("SELECT * FROM requests WHERE request = ?", (request,)).fetchone()
    if row is None:
        return
    kept = cost if resolution.is_final else row["cost"]
    base.execute("UPDATE requests SET resolution = ?, cost = ? WHERE request = ?", (resolution.value, kept, request))
    base.execute(
        "UPDATE usage SET cost = cost + ? WHERE key = ? AND day = ?", (kept - row["cost"], row["key"], row["day"])
    )


def _close_interrupted(base: sqlite3.Connection) -> None:
    left = base.execute("SELECT request, price_max, generated_tokens FROM requests WHERE state = 'open'").fetchall()
    for row in left:
        values = ("interrupted", row["price_max"], row["generated_tokens"], Resolution.PENDING.value)
        _finish(base, row["request"], values)


def _read_request(row: sqlite3.Row) -> StoredRequest:
    values = {name: row[name] for name in StoredRequest.__slots__ if name != "resolution"}
    return StoredRequest(**values, resolution=Resolution(row["resolution"]))
