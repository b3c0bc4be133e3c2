"""Why a worker does not start. Imports nothing heavy: every command names these."""

from __future__ import annotations


class WorkerRefused(Exception):
    """This worker cannot serve as configured. The message says what to change."""


class JournalError(Exception):
    """The journal is damaged or in use by another process. The message says what to do."""
