"""Statements that this worker has signed, on disk before the signature leaves: it has to open any point of them.

One file each, with all leaves. A request may stand in a few of them, of which the chain takes one at most, as each uses
its sequence number.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Final

from inference.serving.record import make_opening
from node.machine.files import PARTIAL_SUFFIX, write_synced
from node.worker.openings import OpeningStore, OpeningUnavailable
from proto_specs import limits
from proto_specs.codec import U64, Max, decode, encode, record
from proto_specs.errors import DecodeError
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.request import OpeningRequest, compute_windows
from proto_specs.types.statement import Statement, compute_statement_id
from proto_specs.types.sum_tree import RequestLeaf, find_place, list_levels, locate

SUFFIX: Final = ".statement"
LAND_BLOCKS: Final = 12
"""A signed statement that is not on chain after so many blocks is no longer waited for."""


@record
class KeptStatement:
    """What was signed, its leaves, and the height that the chain had then."""

    statement: Statement
    leaves: Annotated[tuple[RequestLeaf, ...], Max(limits.STATEMENT_REQUESTS_MAX)]
    height: U64


@dataclass(frozen=True, slots=True)
class SignedEntry:
    """A kept statement by its id. `saved_s` is by the wall clock."""

    statement: bytes
    session: bytes
    requests: tuple[bytes, ...]
    height: int
    saved_s: float


class SignedStatements:
    """The statements under a directory, and which requests they hold. What reads or writes them blocks."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in directory.glob(f"*{PARTIAL_SUFFIX}"):
            path.unlink()
        self._directory = directory
        self._entries: dict[bytes, SignedEntry] = {}
        self._by_request: dict[bytes, set[bytes]] = {}
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            with contextlib.suppress(DecodeError):  # what this worker did not write whole it did not sign
                self._enter(_read(path), path.stat().st_mtime)

    def save(self, kept: KeptStatement) -> None:
        """Write and sync a statement that is about to be signed. Raises OSError."""
        write_synced(self._path(compute_statement_id(kept.statement)), encode(kept))
        self._enter(kept, time.time())

    def load(self, statement: bytes) -> KeptStatement:
        """Raises OpeningUnavailable when there is none."""
        try:
            return _read(self._path(statement))
        except FileNotFoundError as error:
            raise OpeningUnavailable(f"statement {statement.hex()} is not kept here") from error

    def delete(self, statement: bytes) -> None:
        """Forget a statement that is resolved, or that never comes on chain."""
        self._path(statement).unlink(missing_ok=True)
        entry = self._entries.pop(statement, None)
        for request in () if entry is None else entry.requests:
            self._by_request[request].discard(statement)
            if not self._by_request[request]:
                del self._by_request[request]

    def __contains__(self, statement: bytes) -> bool:
        return statement in self._entries

    def list_kept(self) -> list[SignedEntry]:
        """All, by id."""
        return [self._entries[one] for one in sorted(self._entries)]

    def list_of(self, request: bytes) -> list[SignedEntry]:
        """Those that hold a request."""
        return [self._entries[one] for one in sorted(self._by_request.get(request, ()))]

    def is_landing(self, request: bytes, height: int) -> bool:
        """Whether one that holds the request was signed so lately that it may well be on its way to the chain."""
        return any(height - one.height <= LAND_BLOCKS for one in self.list_of(request))

    def _enter(self, kept: KeptStatement, saved_s: float) -> None:
        statement = compute_statement_id(kept.statement)
        requests = tuple(one.request for one in kept.leaves)
        self._entries[statement] = SignedEntry(statement, kept.statement.session, requests, kept.height, saved_s)
        for request in requests:
            self._by_request.setdefault(request, set()).add(statement)

    def _path(self, statement: bytes) -> Path:
        return self._directory / f"{statement.hex()}{SUFFIX}"


def open_point(openings: OpeningStore, signed: SignedStatements, asked: OpeningRequest) -> bytes:
    """The encoded Opening of the window that a drawn point falls on; blocking.

    Raises OpeningUnavailable, DecodeError.
    """
    kept = signed.load(asked.request)
    point = asked.point
    levels = list_levels(kept.leaves)
    root = levels[-1][0]
    if point is None or not 0 <= point < root.prompt + root.tokens:
        raise OpeningUnavailable(f"statement {asked.request.hex()} has no point {point}")
    place = find_place(kept.leaves, levels, point)
    position = locate(place, len(kept.leaves), root, point)
    assert position is not None, "the place was made of the very leaves"
    window = position // WINDOW_POSITIONS
    record = openings.load(place.leaf.request, asked.stage)
    try:
        return encode(replace(make_opening(record, window, compute_windows(place.leaf.positions)), place=place))
    except IndexError as error:
        raise OpeningUnavailable(str(error)) from error


def _read(path: Path) -> KeptStatement:
    return decode(KeptStatement, path.read_bytes(), 2 * limits.STATEMENT_PROPOSAL_BYTES_MAX)
