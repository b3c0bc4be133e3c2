"""How far a long command is: one line on standard error, where that is a terminal."""

from __future__ import annotations

import sys


def report_progress(what: str, done: int, total: int) -> None:
    """Overwrite the line."""
    if sys.stderr.isatty():
        text = f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}" if done else what
        print(f"\r\x1b[K{text}", end="" if done < total or not total else "\n", file=sys.stderr, flush=True)
