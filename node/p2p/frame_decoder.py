"""Frames out of a stream of bytes: a big-endian u32 length and that many bytes each. Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from node.p2p.errors import FrameTooLarge

HEADER: Final = struct.Struct(">I")


class FrameDecoder:
    """Pure: bytes in, whole frames out. Memory is bounded by one frame plus the input of one `feed`."""

    __slots__ = ("_buffer", "_frame_bytes_max")

    def __init__(self, frame_bytes_max: int) -> None:
        self._buffer = bytearray()
        self._frame_bytes_max = frame_bytes_max

    @property
    def is_between_frames(self) -> bool:
        """True when no frame has begun, so that the stream may end here."""
        return not self._buffer

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Add bytes and yield the payloads completed by them, heartbeats left out. Must be exhausted.

        Raises FrameTooLarge once a header announces too much, before any of its payload is kept.
        """
        buffer = self._buffer
        buffer += data
        start = 0
        with memoryview(buffer) as view:
            while len(buffer) - start >= HEADER.size:
                (length,) = HEADER.unpack_from(buffer, start)
                if length > self._frame_bytes_max:
                    raise FrameTooLarge(f"frame of {length} bytes announced, limit is {self._frame_bytes_max}")
                end = start + HEADER.size + length
                if end > len(buffer):
                    break
                if length:
                    yield bytes(view[start + HEADER.size : end])
                start = end
        del buffer[:start]
