"""Why a worker does not start, or ends. Imports nothing heavy: every command names these."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class WorkerRefused(MyelinError):
    """This worker cannot serve as configured. The message says what to change."""


class WorkerReplaced(MyelinError):
    """Another process announced this worker key while this one served: it took no more requests and has ended."""

    def __init__(self, worker: bytes, peer_id: str) -> None:
        short = worker.hex()[:12]
        super().__init__(
            f"worker {short} ended, because the chain names peer {peer_id} for its key now: run each key in one place, "
            "or give this one a key of its own (`myelin keys new`)"
        )


class JournalError(MyelinError):
    """The log is damaged or another process has it. The message says what to do."""
