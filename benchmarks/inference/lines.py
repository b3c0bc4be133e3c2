"""A child process driven by JSON lines: one call a line in, one answer a line out. Only the standard library.

The measured engines run in such children, each under its own interpreter; what they have in common is this file and
the names of the calls.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
END_S = 10.0


class CallFailed(Exception):
    """The child refused a call, or ended. The text is one line: the child's own reason."""


def serve(calls: Sequence[Callable[..., Any]], refusals: tuple[type[Exception], ...]) -> None:
    """Answer calls, by the functions' names, until the input ends. The texts of `refusals` are for people as they are.

    What a library prints goes to standard error, never between the answers.
    """
    handlers = {one.__name__: one for one in calls}
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = {"answer": handlers[asked["call"]](**asked["with"])}
        except Exception as error:  # every reason goes to the parent, which decides
            name = "" if isinstance(error, refusals) else f"{type(error).__name__}: "
            answer = {"failed": name + " ".join(str(error).split())}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


class Child:
    """A running child, as `start_child` yields it."""

    def __init__(self, process: subprocess.Popen[str], log: IO[str]) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process, as /proc knows it."""
        return self._process.pid

    def call(self, name: str, **given: Any) -> Any:
        """The answer to one call. Raises CallFailed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"call": name, "with": given}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise CallFailed(f"the process ended during {name}: {self._read_last_line()}")
        answer = json.loads(line)
        if "failed" in answer:
            raise CallFailed(answer["failed"])
        return answer["answer"]

    def _read_last_line(self) -> str:
        self._process.wait(END_S)
        self._log.seek(0)
        lines = self._log.read().strip().splitlines()
        return lines[-1] if lines else f"status {self._process.returncode}"


@contextlib.contextmanager
def start_child(module: str, interpreter: str = sys.executable) -> Iterator[Child]:
    """`python -m MODULE` of this checkout under an interpreter, for the length of the block. Raises CallFailed."""
    argv = [interpreter, "-m", module]
    with tempfile.TemporaryFile("w+") as log:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, text=True
            )
        except OSError as error:
            raise CallFailed(f"{interpreter}: {error.strerror}") from error
        try:
            yield Child(process, log)
        finally:
            process.kill()  # it holds nothing that must be saved, and may be in the midst of a call
            process.communicate()
