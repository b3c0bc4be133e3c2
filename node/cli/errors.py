"""Errors in what a user asks of the command line. Imports nothing heavy."""

from __future__ import annotations

import errno
from typing import Any

from proto_specs.errors import MyelinError


class CliError(MyelinError):
    """What was asked for on the command line makes no sense, or is not there. The message says what to write."""


class SystemRefused(CliError):
    """The operating system refused a file or an address. The message names it and says what helps."""


class CallRefused(CliError):
    """A transaction is in a block and its fee is paid, but the runtime refused its call. `error` is its reason."""

    def __init__(self, call: str, module: str, error: str, extrinsic: str, height: int, fee: int) -> None:
        super().__init__(f"{error}: module {module} refused {call} {extrinsic} in block {height}; {fee} nmyl were paid")
        self.error = error
        self.details = {"module": module, "call": call, "extrinsic": extrinsic, "height": height, "fee": fee}

    def describe(self) -> dict[str, Any]:
        """The object's `error` is the runtime's name for the reason."""
        return {**super().describe(), "error": self.error, **self.details}


_ADVICE = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "a part of the path is a file: check the path",
    errno.EISDIR: "it is a directory: name a file",
    errno.EEXIST: "choose another name, or move what is there away",
    errno.ENOTEMPTY: "choose another name, or move what is there away",
    errno.EACCES: "change its permissions, or run as the user it belongs to",
    errno.EPERM: "change its permissions, or run as the user it belongs to",
    errno.EROFS: "choose a place that can be written",
    errno.ENOSPC: "free space on the disk, then run this again",
    errno.EDQUOT: "free space on the disk, then run this again",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.EADDRINUSE: "another process listens there: stop it, or choose another port",
    errno.EADDRNOTAVAIL: "this machine has no such address: choose another",
}


def explain_system_error(error: OSError) -> SystemRefused:
    """The operating system's message, the file it is about, and what to do."""
    files = " -> ".join(str(one) for one in (error.filename, error.filename2) if one is not None)
    what = error.strerror or str(error) or type(error).__name__
    advice = _ADVICE.get(error.errno or 0, "see that it is there and may be used")
    return SystemRefused(f"{files}: {what}; {advice}" if files else f"{what}: {advice}")
