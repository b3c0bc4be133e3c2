"""What the parts of a worker tell each other of its being there: the last block it saw, and whether it leaves."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Presence:
    """`height` is the last block this worker read; `leaving` says why it takes no new requests, None while it does."""

    height: int = 0
    leaving: str | None = None
