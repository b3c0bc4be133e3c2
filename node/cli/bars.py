"""The progress bar of downloads, imports and other long work, on a terminal."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn


def make_progress(console: Console, counts_bytes: bool = True) -> Progress:
    """The progress bar of a command, shown on a terminal."""
    amount: list[ProgressColumn] = [DownloadColumn()] if counts_bytes else []
    return Progress(
        TextColumn("[bold]{task.description:>10}[/bold]"),
        BarColumn(),
        *amount,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )
