"""API keys: how one is made, told by its hash, listed and revoked.

A key has 32 random bytes. Nobody can try 2^256 of them, so that its hash may be a fast one: a slow hash is for secrets
that people choose. Who reads the database learns no key from it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sqlite3
import time
from dataclasses import dataclass

from proto_specs.errors import MyelinError

KEY_PREFIX = "sk-myelin-"
NAME_CHARS_MAX = 64
_FORM = re.compile(r"sk-myelin-[A-Za-z0-9_-]{43}")


class KeyInvalid(MyelinError):
    """A key cannot be made like that. The text says what to change."""


@dataclass(frozen=True, slots=True)
class KeyLimits:
    """What a key may do; None is without limit. Budgets in nmyl. `models` are names or ids; none given: every model."""

    budget: int | None = None
    daily_budget: int | None = None
    requests_a_minute: int | None = None
    tokens_a_minute: int | None = None
    models: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as the database knows it."""

    number: int
    name: str
    created: int
    limits: KeyLimits
    is_revoked: bool


OPEN_KEY = ApiKey(0, "open", 0, KeyLimits(), is_revoked=False)
"""Who asks a gateway that runs without keys."""


def compute_key_hash(key: str) -> bytes:
    """The hash by which a key is stored."""
    return hashlib.blake2b(key.encode(), digest_size=32, person=b"myelin-api-key").digest()


def create_key(database: sqlite3.Connection, name: str, limits: KeyLimits) -> str:
    """Make a key. The text is shown this once: nothing here can tell it again. Raises KeyInvalid."""
    if any(not one.strip() or "\n" in one for one in limits.models):
        raise KeyInvalid("a model that a key may use has a name, in one line: an empty list would allow every model")
    text = KEY_PREFIX + base64.urlsafe_b64encode(os.urandom(32)).decode().rstrip("=")
    database.execute(
        "INSERT INTO keys (hash, name, created, budget, daily_budget, requests_a_minute, tokens_a_minute, models)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            compute_key_hash(text),
            name[:NAME_CHARS_MAX],
            int(time.time()),
            limits.budget,
            limits.daily_budget,
            limits.requests_a_minute,
            limits.tokens_a_minute,
            "\n".join(limits.models),
        ),
    )
    return text


def find_key(database: sqlite3.Connection, text: str) -> ApiKey | None:
    """The key of this text; None for one that is unknown or revoked."""
    if _FORM.fullmatch(text) is None:
        return None
    row = database.execute("SELECT * FROM keys WHERE hash = ?", (compute_key_hash(text),)).fetchone()
    found = None if row is None else _read_key(row)
    return None if found is None or found.is_revoked else found


def list_keys(database: sqlite3.Connection) -> list[ApiKey]:
    """All keys, oldest first."""
    return [_read_key(one) for one in database.execute("SELECT * FROM keys ORDER BY id")]


def revoke_key(database: sqlite3.Connection, name: str) -> int:
    """Revoke the keys of this name or number, from the next request on; returns how many."""
    number = int(name) if name.isascii() and name.isdecimal() and len(name) < 18 else -1
    done = database.execute("UPDATE keys SET revoked = 1 WHERE (name = ? OR id = ?) AND revoked = 0", (name, number))
    return done.rowcount


def _read_key(row: sqlite3.Row) -> ApiKey:
    limits = KeyLimits(
        row["budget"],
        row["daily_budget"],
        row["requests_a_minute"],
        row["tokens_a_minute"],
        tuple(row["models"].split("\n")) if row["models"] else (),
    )
    return ApiKey(row["id"], row["name"], row["created"], limits, bool(row["revoked"]))
