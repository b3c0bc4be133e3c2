"""The database of keys, requests and usage: its tables, and how it is opened.

Tables: `keys` (a key is there by its hash alone), `requests` (a row is there before a request's first token leaves;
`continues` is the request of the same answer that it goes on from),
`usage` (sums by key and day, UTC). Amounts are nmyl, times are whole seconds since 1970.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from proto_specs.errors import MyelinError

DATABASE_NAME = "gateway.sqlite"
VERSION = 2
BUSY_MS = 5_000

_TABLES = """
CREATE TABLE keys (
  id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, name TEXT NOT NULL, created INTEGER NOT NULL,
  budget INTEGER, daily_budget INTEGER, requests_a_minute INTEGER, tokens_a_minute INTEGER,
  models TEXT NOT NULL DEFAULT '', revoked INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE requests (
  request BLOB PRIMARY KEY, key INTEGER NOT NULL, day INTEGER NOT NULL, created INTEGER NOT NULL, session BLOB NOT NULL,
  model BLOB NOT NULL, price_max INTEGER NOT NULL, state TEXT NOT NULL, cost INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL, generated_tokens INTEGER NOT NULL, resolution TEXT NOT NULL,
  continues BLOB
) WITHOUT ROWID;
CREATE INDEX requests_unresolved ON requests (created) WHERE resolution IN ('pending', 'settled');
CREATE INDEX requests_by_key ON requests (key, created);
CREATE INDEX requests_continued ON requests (continues) WHERE continues IS NOT NULL;
CREATE TABLE usage (
  key INTEGER NOT NULL, day INTEGER NOT NULL, requests INTEGER NOT NULL, prompt_tokens INTEGER NOT NULL,
  generated_tokens INTEGER NOT NULL, cost INTEGER NOT NULL, PRIMARY KEY (key, day)
) WITHOUT ROWID;
"""


_OF_VERSION_1 = """
ALTER TABLE requests ADD COLUMN continues BLOB;
CREATE INDEX requests_continued ON requests (continues) WHERE continues IS NOT NULL;
"""


class DatabaseUnusable(MyelinError):
    """The gateway's database cannot be read or written. Check the disk, and that nobody else holds it."""


def open_database(path: Path) -> sqlite3.Connection:
    """Open, make at first. Each statement is its own transaction unless one is begun. Raises DatabaseUnusable."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        made = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=BUSY_MS / 1000)
        made.row_factory = sqlite3.Row
        made.execute("PRAGMA journal_mode = WAL")
        made.execute("PRAGMA synchronous = NORMAL")  # a killed process loses nothing; a power cut the last moments
        version = made.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            made.executescript(f"BEGIN IMMEDIATE; {_TABLES} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version == 1:
            made.executescript(f"BEGIN IMMEDIATE; {_OF_VERSION_1} PRAGMA user_version = {VERSION}; COMMIT;")
        elif version != VERSION:
            made.close()
            raise DatabaseUnusable(f"{path} is of version {version}, not {VERSION}: give another --base")
    except (sqlite3.Error, OSError) as error:
        raise DatabaseUnusable(f"{path} cannot be opened ({error}): check the disk and its rights") from error
    return made
