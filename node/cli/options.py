"""Options that several commands share, each defined once, and the parser of layer ranges. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from node.cli.errors import CliError
from node.cli.failing import answer_in_json
from proto_specs.limits import DRAFT_TOKENS_MAX

DEFAULT_BASE = Path.home() / ".myelin"
LAYERS_TEXT_MAX = 20


class LayersInvalid(CliError):
    """The text is no range of layers. Write START:END, such as 0:10 for the first ten."""


def _note_json(context: typer.Context, value: bool) -> bool:
    """With --json a failure is reported as JSON too."""
    if value:
        answer_in_json(context)
    return value


BaseOption = Annotated[Path, typer.Option("--base", help="The node's directory.")]
DeviceOption = Annotated[
    str, typer.Option(help="What computes: cpu, cuda, or cuda:N for GPU N. Never another one than was asked for.")
]
DraftsOption = Annotated[
    int,
    typer.Option(
        min=0, max=DRAFT_TOKENS_MAX, help="Tokens drafted for a call at most, as a path's first stage; 0: none."
    ),
]
DraftModelOption = Annotated[
    str | None, typer.Option(help="A small stored model of the same tokenizer that drafts, besides look-up.")
]
RelayOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Address of a node with --relay-for, through which others reach this worker where nobody can dial it. "
        "Repeatable."
    ),
]
LogLevelOption = Annotated[str, typer.Option(help="What to log: DEBUG, INFO, WARNING, ERROR or CRITICAL.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.", callback=_note_json)]


def parse_layers(text: str) -> tuple[int, int]:
    """(start, end) of START:END, END not included. Raises LayersInvalid."""
    start, colon, end = text.partition(":")
    is_range = bool(colon) and text.isascii() and start.isdecimal() and end.isdecimal()
    if not is_range or len(text) > LAYERS_TEXT_MAX or int(start) >= int(end):
        raise LayersInvalid(f"{text!r:.40} is no range of layers: write START:END, such as 0:10 for the first ten")
    return int(start), int(end)
