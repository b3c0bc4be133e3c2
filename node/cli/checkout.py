"""Finds the parts of a source checkout that no wheel has: benchmarks, and the dishonest parties of the demo."""

from __future__ import annotations

from pathlib import Path

from node.cli.errors import CliError
from proto_specs.errors import ExitStatus

ROOT = Path(__file__).parents[2]
"""The root of the checkout, if this program runs from one."""


class NoCheckout(CliError):
    """Something is asked for that only a checkout of the source tree has."""

    exit_status = ExitStatus.WRONG_USAGE


def find_in_checkout(folder: str) -> Path:
    """The root of the checkout that this program runs from. Raises NoCheckout when `folder` is not in it."""
    if not (ROOT / folder).is_dir():
        raise NoCheckout(f"this needs {folder}/ of the source tree: run it from a checkout")
    return ROOT
