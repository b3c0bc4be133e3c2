"""All exception classes of the five packages: one root, a docstring that explains each, an exit status users know."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path

import pytest

from node.cli.errors import explain_system_error
from node.sim.consensus.disk import Crashed
from proto_specs.errors import ExitStatus, MyelinError

PACKAGES = ("proto_specs", "consensus", "inference", "genesis", "node", "myelin")
README = Path(__file__).parents[2] / "README.md"
INTERRUPTIONS = {Crashed}
"""No errors, but the end of a simulated machine: `except Exception` must not stop them, as with KeyboardInterrupt."""


def list_exceptions() -> list[type[BaseException]]:
    """Those that a module of the five packages defines."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    found = {
        one
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in PACKAGES
        for one in vars(module).values()
        if inspect.isclass(one) and issubclass(one, BaseException) and one.__module__ == name
    }
    return sorted(found, key=lambda one: (one.__module__, one.__qualname__))


def test_every_exception_derives_from_the_root_and_explains_itself() -> None:
    found = list_exceptions()
    assert len(found) > 200
    assert [one for one in found if not issubclass(one, MyelinError)] == list(INTERRUPTIONS)
    assert [one for one in found if not (one.__dict__.get("__doc__") or "").strip()] == []
    statuses = {one: one.exit_status for one in found if issubclass(one, MyelinError)}
    failures = set(ExitStatus) - {ExitStatus.DONE, ExitStatus.NOT_VERIFIED, ExitStatus.INTERRUPTED}
    assert {one: status for one, status in statuses.items() if status not in failures} == {}


def test_every_exit_status_is_in_the_readme() -> None:
    text = " ".join(README.read_text().split())
    listed = re.findall(r"(\d+) [a-z]", text[text.index("Exit status: ") : text.index(" no node answers") + 4])
    assert {int(one) for one in listed} == set(ExitStatus) - {ExitStatus.INTERRUPTED}


def test_the_message_is_one_line_and_never_empty() -> None:
    class SomethingMissing(MyelinError):
        """It is missing. Name it."""

    assert SomethingMissing("two\n  lines").describe() == {"error": "SomethingMissing", "message": "two lines"}
    assert SomethingMissing().message == "SomethingMissing: It is missing. Name it."


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError(2, "No such file or directory", "a.gguf"), "a.gguf: No such file or directory; check"),
        (OSError(28, "No space left on device"), "No space left on device: free space on the disk"),
        (OSError("odd"), "odd: see that"),
    ],
)
def test_what_the_operating_system_says_names_the_file(error: OSError, text: str) -> None:
    assert explain_system_error(error).message.startswith(text)
