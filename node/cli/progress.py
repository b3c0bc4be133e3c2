"""How far a long command is: one line on standard error, where that is a terminal."""

from __future__ import annotations

import sys

_BEGIN = "\r\x1b[K"


def report_progress(what: str, done: int, total: int) -> None:
    """Overwrite the line."""
    if sys.stderr.isatty():
        text = f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}" if done else what
        print(f"{_BEGIN}{text}", end="", file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Take the line away: what follows is the answer, or why there is none."""
    if sys.stderr.isatty():
        print(_BEGIN, end="", file=sys.stderr, flush=True)
