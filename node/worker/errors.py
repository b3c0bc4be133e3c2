"""Why a worker does not start. Imports nothing heavy: every command names these."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class WorkerRefused(MyelinError):
    """This worker cannot serve as configured. The message says what to change."""


class JournalError(MyelinError):
    """The log is damaged or another process has it. The message says what to do."""
