"""Why a worker does not start."""

from __future__ import annotations


class WorkerRefused(Exception):
    """This worker cannot serve as configured. The message says what to change."""
