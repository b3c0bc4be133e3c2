"""Yamux on the wire (hashicorp/yamux spec.md): header, frame types, flags, and the bounds we hold a peer to.

A frame is a 12-byte header (version u8 = 0, type u8, flags u16, stream u32, length u32, big-endian), then `length`
bytes of payload for DATA frames only. The dialer's streams have odd ids, the listener's even ones.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from proto_specs.errors import MyelinError

HEADER: Final = struct.Struct(">BBHII")
WINDOW_BYTES_INITIAL: Final = 256 * 1024
NOISE_RECORD_BYTES_MAX: Final = 65_535 - 16
PAYLOAD_BYTES_MAX: Final = NOISE_RECORD_BYTES_MAX - HEADER.size
SEND_WINDOW_BYTES_MAX: Final = 1 << 32
GO_AWAY_NORMAL: Final = 0


class FrameType:
    """Type byte of a frame. Plain ints: enum arithmetic costs more than parsing a frame does."""

    DATA: Final = 0
    WINDOW_UPDATE: Final = 1
    PING: Final = 2
    GO_AWAY: Final = 3


class Flag:
    """Flag bits of a frame."""

    NONE: Final = 0
    SYN: Final = 1
    ACK: Final = 2
    FIN: Final = 4
    RST: Final = 8


@dataclass(frozen=True, slots=True)
class YamuxLimits:
    """Bounds of one connection. The window of a stream doubles up to `window_bytes_max` while it is being read."""

    window_bytes_max: int = 4 * 1024 * 1024
    inbound_streams_max: int = 256
    pending_controls_max: int = 2048
    ping_after_s: float = 5.0
    silence_max_s: float = 15.0

    def __post_init__(self) -> None:
        if self.window_bytes_max < WINDOW_BYTES_INITIAL:
            raise ValueError(f"a window starts at {WINDOW_BYTES_INITIAL} bytes and cannot shrink")
        if self.pending_controls_max * HEADER.size > NOISE_RECORD_BYTES_MAX:
            raise ValueError("pending control frames must fit one Noise record")
        if not 0 < self.ping_after_s < self.silence_max_s:
            raise ValueError("ping_after_s must be positive and shorter than silence_max_s")


class YamuxViolation(MyelinError):
    """The peer broke the multiplexer's rules; the connection is dropped."""
