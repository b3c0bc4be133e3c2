"""The progress of a long command: a line on standard error, if that is a terminal."""

from __future__ import annotations

import sys

_BEGIN = "\r\x1b[K"


def report_progress(what: str, done: int, total: int) -> None:
    """Overwrite the progress line."""
    if sys.stderr.isatty():
        text = f"{what}: {done:,} of {total:,}" if total else f"{what}: {done:,}" if done else what
        print(f"{_BEGIN}{text}", end="", file=sys.stderr, flush=True)


def clear_progress() -> None:
    """Remove the progress line before the answer or an error is printed."""
    if sys.stderr.isatty():
        print(_BEGIN, end="", file=sys.stderr, flush=True)
