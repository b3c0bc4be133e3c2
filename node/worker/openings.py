"""Finished requests on disk until the chain has resolved them, and the protocol that opens them to verifiers.

A record is written and synced before the stage commits to its roots, so that a worker killed at any moment can still
open every window it may be challenged for.
"""

from __future__ import annotations

import time
from pathlib import Path

from inference.serving.record import RequestRecord, make_opening
from node.machine.files import PARTIAL_SUFFIX, write_synced
from proto_specs.codec import decode, encode
from proto_specs.errors import ProtocolError
from proto_specs.limits import OPENING_BYTES_MAX
from proto_specs.types.request import OpeningRequest, compute_request_id

RECORD_SUFFIX = ".record"
RECORD_BYTES_MAX = 3 * OPENING_BYTES_MAX
"""Input, output and trace of all windows. An opening has only one window of the latter two."""


class OpeningUnavailable(ProtocolError):
    """The request was never kept here, or was deleted."""


class OpeningStore:
    """One file per request and stage under `directory`; blocking, so call it from a thread."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in directory.glob(f"*{PARTIAL_SUFFIX}"):
            path.unlink()  # of a process that was killed while it wrote
        self._directory = directory

    def save(self, record: RequestRecord) -> None:
        """Write and sync a record; an interrupted write leaves none."""
        write_synced(self._path(compute_request_id(record.order.order), record.stage), encode(record))

    def load(self, request: bytes, stage: int) -> RequestRecord:
        """Raises OpeningUnavailable when there is none."""
        try:
            data = self._path(request, stage).read_bytes()
        except FileNotFoundError as error:
            raise OpeningUnavailable(f"request {request.hex()} is not kept here") from error
        return decode(RequestRecord, data, RECORD_BYTES_MAX)

    def delete(self, request: bytes, stage: int) -> None:
        """Forget a resolved request. A missing one is no error."""
        self._path(request, stage).unlink(missing_ok=True)

    def list_kept(self) -> list[tuple[bytes, int]]:
        """(request, stage) of every record."""
        names = sorted(path.stem for path in self._directory.glob(f"*{RECORD_SUFFIX}"))
        return [(bytes.fromhex(request), int(stage)) for request, stage in (name.split("-") for name in names)]

    def get_age_s(self, request: bytes, stage: int) -> float:
        """Seconds since a record was written; 0 when there is none."""
        try:
            return time.time() - self._path(request, stage).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def open(self, body: bytes, windows: int | None = None) -> bytes:
        """Answer an encoded OpeningRequest with an encoded Opening. `windows` were settled; None: all that are kept.

        Raises DecodeError for garbage and OpeningUnavailable for a request that is not kept or has no such window.
        """
        asked = decode(OpeningRequest, body)
        try:
            return encode(make_opening(self.load(asked.request, asked.stage), asked.window, windows))
        except IndexError as error:
            raise OpeningUnavailable(str(error)) from error

    def _path(self, request: bytes, stage: int) -> Path:
        return self._directory / f"{request.hex()}-{stage}{RECORD_SUFFIX}"
