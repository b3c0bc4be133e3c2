"""Bounds of what a client may make the gateway hold or wait for."""

from __future__ import annotations

from typing import Final

BODY_BYTES_MAX: Final = 1 << 20
BODY_TIMEOUT_S: Final = 30.0
LEFT_TIMEOUT_S: Final = 1.0
"""For the rest of a body whose answer is already known."""
HEADER_BYTES_MAX: Final = 32 * 1024
CONNECTIONS_MAX: Final = 4_096
IDLE_TIMEOUT_S: Final = 75.0
"""Of a connection without a request, its headers not yet whole included."""
STALL_TIMEOUT_S: Final = 60.0
"""A client that takes nothing of its answer for so long is gone."""
REQUESTS_PER_CONNECTION_MAX: Final = 10_000
STOPPING_S: Final = 5.0
PING_S: Final = 5.0
"""Silence after which a stream gets a comment, so that nobody between takes it for dead."""
JSON_DEPTH_MAX: Final = 64
