"""Signed windows of running requests on disk: memory stays bounded, and a worker that was killed can still open them.

A file for each request: a head, then the windows, each with its length before it. Nothing is synced: what a killed
process wrote is there, what a machine that lost its power wrote may be cut short, and the rest of it counts.
"""

from __future__ import annotations

import contextlib
import os
import struct
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from inference.serving.boundary import BoundaryError
from inference.serving.record import RequestRecord
from inference.serving.window_store import SignedWindow
from proto_specs import limits
from proto_specs.codec import U8, Max, decode, encode, record
from proto_specs.errors import DecodeError
from proto_specs.types.common import Payload
from proto_specs.types.request import SignedOrder, compute_request_id
from proto_specs.types.wire import FailureCode

SUFFIX = ".windows"
HEAD_BYTES_MAX = 64 * limits.MIB
FILE_BYTES_MAX = 4 * limits.OPENING_BYTES_MAX
"""More than the head and all windows of a request take: what is larger was not written here."""
_LENGTH = struct.Struct(">I")


@record
class WindowsHead:
    """What the windows of a file belong to: see RequestRecord."""

    order: SignedOrder
    stage: U8
    prompt: Payload
    grammar: Annotated[bytes, Max(limits.GRAMMAR_BYTES_MAX)]


class WindowFile:
    """Fulfils `WindowStore`. The file is made with the first window, and read as long as this object lives."""

    def __init__(self, directory: Path, head: WindowsHead) -> None:
        request = compute_request_id(head.order.order)
        self._path = directory / f"{request.hex()}-{head.stage}{SUFFIX}"
        self._head = head
        self._file: int | None = None
        self._places: list[tuple[int, int]] = []
        self._end = 0
        self._latest: tuple[int, SignedWindow] | None = None

    def put(self, window: SignedWindow) -> None:
        """See WindowStore."""
        try:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
                weakref.finalize(self, os.close, self._file)  # whoever goes on from the request may read it longer
                self._append(encode(self._head))
            self._places.append(self._append(encode(window)))
        except OSError as error:
            raise BoundaryError(f"the worker cannot write to its disk: {error}", FailureCode.INTERNAL) from error

    def get(self, number: int) -> SignedWindow:
        """See WindowStore."""
        if self._latest is not None and self._latest[0] == number:
            return self._latest[1]
        start, size = self._places[number]
        assert self._file is not None, "a window was put"
        try:
            found = decode(SignedWindow, os.pread(self._file, size, start), size)
        except (OSError, DecodeError) as error:
            raise BoundaryError(f"the worker cannot read its disk: {error}", FailureCode.INTERNAL) from error
        self._latest = number, found  # its parts are asked for one after another
        return found

    def delete(self) -> None:
        """The request has ended: what counts of it is kept elsewhere. Whoever still reads can do so."""
        self._path.unlink(missing_ok=True)

    def _append(self, data: bytes) -> tuple[int, int]:
        assert self._file is not None, "the file is open"
        whole = _LENGTH.pack(len(data)) + data
        if os.pwrite(self._file, whole, self._end) != len(whole):
            raise OSError("the disk is full")
        start = self._end + _LENGTH.size
        self._end += len(whole)
        return start, len(data)


def read_left(directory: Path) -> Iterator[tuple[Path, RequestRecord | None]]:
    """The records of requests that ran when this worker was killed, as far as they were written; None: nothing is."""
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        yield path, _read_record(path.read_bytes()) if path.stat().st_size <= FILE_BYTES_MAX else None


def _read_record(data: bytes) -> RequestRecord | None:
    parts = _split(data)
    head: WindowsHead | None = None
    windows: list[SignedWindow] = []
    with contextlib.suppress(DecodeError):
        for part in parts:
            if head is None:
                head = decode(WindowsHead, part, HEAD_BYTES_MAX)
            else:
                windows.append(decode(SignedWindow, part, len(part)))
    if head is None or not windows:
        return None
    return RequestRecord(
        order=head.order,
        stage=head.stage,
        input_leaves=tuple(one.input_leaf for one in windows),
        input_payloads=tuple(one.input_payload for one in windows),
        output_leaves=tuple(one.output_leaf for one in windows),
        output_payloads=tuple(one.output_payload for one in windows),
        traces=tuple(one.trace for one in windows),
        prompt=head.prompt,
        grammar=head.grammar,
    )


def _split(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + _LENGTH.size <= len(data):
        (size,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + size > len(data):
            return
        yield data[at : at + size]
        at += size
