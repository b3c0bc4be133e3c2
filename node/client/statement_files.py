"""Statements of an account on disk: which requests each settles, and what to send again after a restart. Blocking."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from node.machine.files import PARTIAL_SUFFIX, write_synced
from proto_specs import limits
from proto_specs.codec import Max, decode, encode, record
from proto_specs.errors import DecodeError
from proto_specs.types.statement import SignedStatement, Statement, compute_statement_id
from proto_specs.types.sum_tree import RequestLeaf

SUFFIX: Final = ".statement"
DIRECTORY_SUFFIX: Final = "-statements"
KEPT_S_MAX: Final = 7 * 24 * 3600.0
"""So long it is known here which statement a request is in."""
FILE_BYTES_MAX: Final = 2 * limits.STATEMENT_PROPOSAL_BYTES_MAX

logger = logging.getLogger("myelin.client")


@record
class FiledStatement:
    """A statement that every party signed, with its leaves."""

    signed: SignedStatement
    leaves: Annotated[tuple[RequestLeaf, ...], Max(limits.STATEMENT_REQUESTS_MAX)]


@dataclass(frozen=True, slots=True)
class StatedRequest:
    """A request in a statement, by the statement's id."""

    statement: bytes
    told: Statement
    leaf: RequestLeaf


class StatementFiles:
    """The directory of one account on one chain."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._by_request: dict[bytes, StatedRequest] = {}
        self._left: list[SignedStatement] = []
        for path in sorted(directory.glob(f"*{PARTIAL_SUFFIX}")):
            path.unlink(missing_ok=True)
        for path in sorted(directory.glob(f"*{SUFFIX}")):
            self._read(path)

    def keep(self, kept: FiledStatement) -> bytes:
        """Write and sync a statement before it is sent; returns its id. Raises OSError."""
        statement = compute_statement_id(kept.signed.statement)
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_synced(self._directory / f"{statement.hex()}{SUFFIX}", encode(kept))
        self._enter(statement, kept)
        return statement

    def find(self, request: bytes) -> StatedRequest | None:
        """The statement that a request is in; None when it is in none that is known here."""
        return self._by_request.get(request)

    def take_left(self) -> list[SignedStatement]:
        """Those of earlier runs, once: some may not have been sent."""
        left, self._left = self._left, []
        return left

    def _read(self, path: Path) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process of the account has just removed it
            if time.time() - path.stat().st_mtime > KEPT_S_MAX:
                path.unlink(missing_ok=True)
                return
            try:
                kept = decode(FiledStatement, path.read_bytes(), FILE_BYTES_MAX)
            except DecodeError as error:
                logger.warning("%s is damaged, its requests are not known to be stated: %s", path, error)
                return
            self._enter(compute_statement_id(kept.signed.statement), kept)
            self._left.append(kept.signed)

    def _enter(self, statement: bytes, kept: FiledStatement) -> None:
        for leaf in kept.leaves:
            self._by_request[leaf.request] = StatedRequest(statement, kept.signed.statement, leaf)


def find_stated(base: Path, request: bytes) -> StatedRequest | None:
    """The statement that a request is in, of any account whose statements are kept under `base`."""
    for directory in sorted(base.glob(f"*{DIRECTORY_SUFFIX}")):
        found = StatementFiles(directory).find(request)
        if found is not None:
            return found
    return None
