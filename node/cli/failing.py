"""Ends a failing command: a user's error as one line and its exit status, a bug with its traceback.

All commands of the command line end here. Imports nothing heavy.
"""

from __future__ import annotations

import contextlib
import json
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import typer
from typer.core import TyperGroup

from node.cli.errors import explain_system_error
from node.cli.progress import clear_progress
from proto_specs.errors import ExitStatus, MyelinError

REPORT = "This is a bug of Myelin: please report it with the lines above."
_IN_JSON = "node.cli.failing.in_json"


class FailingGroup(TyperGroup):
    """A group of commands that end as this file says when they fail."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that the arguments name."""
        with end_in_one_line(lambda: _IN_JSON in ctx.meta):
            return super().invoke(ctx)


def answer_in_json(context: typer.Context) -> None:
    """Make this command report a failure as a JSON object."""
    context.meta[_IN_JSON] = True


@contextlib.contextmanager
def end_in_one_line(is_in_json: Callable[[], bool]) -> Iterator[None]:
    """Turn a user's error, even inside a nursery's group, into one line on standard error and its exit status.

    The line is text, or the JSON object of `MyelinError.describe`. Bugs pass through.
    """
    try:
        yield
    except (KeyboardInterrupt, MyelinError, OSError, BaseExceptionGroup) as error:
        leaf = _find_leaf(error)
        if isinstance(leaf, KeyboardInterrupt):
            sys.exit(ExitStatus.INTERRUPTED)
        if isinstance(leaf, BrokenPipeError):  # the reader of the output is gone, as with `| head`: typer ends quietly
            raise leaf from None
        if isinstance(leaf, OSError):
            leaf = explain_system_error(leaf)
        if not isinstance(leaf, MyelinError):
            raise
        _exit(leaf, is_in_json())


def run(app: Callable[[], Any]) -> None:
    """Run the command line as a process. A bug shows its traceback, and the last line asks to report it."""
    try:
        app()
    except (Exception, BaseExceptionGroup) as error:
        clear_progress()
        traceback.print_exception(error)
        print(REPORT, file=sys.stderr)
        sys.exit(ExitStatus.REFUSED)


def _exit(error: MyelinError, in_json: bool) -> NoReturn:
    clear_progress()
    print(json.dumps(error.describe()) if in_json else f"error: {error.message}", file=sys.stderr)
    sys.exit(error.exit_status)


def _find_leaf(error: BaseException) -> BaseException:
    """The first exception inside nested groups."""
    found = error
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
