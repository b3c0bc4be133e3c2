"""The root of every error that a user can act on, and the tree of what comes off a wire or a disk. Knows no caller."""

from __future__ import annotations

import enum
from typing import Any, ClassVar


class ExitStatus(enum.IntEnum):
    """How a `myelin` process ends. The table in README.md is for users; nothing else is ever returned."""

    DONE = 0
    REFUSED = 1
    """With the reason on standard error; also a bug of ours, with its traceback."""
    WRONG_USAGE = 2
    NOT_VERIFIED = 3
    """A stage failed verification, or could not be verified: the client was refunded."""
    WORKER_LOST = 4
    """A worker failed in mid-request: the escrow returns."""
    UNREACHABLE = 5
    """No node answers."""
    INTERRUPTED = 130


class MyelinError(Exception):
    """Root of every typed error of the five packages. Its text names what is wrong and says what to do about it.

    Never raised for a bug of ours: those are assertions, and show a traceback. A class without a text of its own is
    explained by its docstring.
    """

    exit_status: ClassVar[ExitStatus] = ExitStatus.REFUSED
    """Of the command that it ends."""

    @property
    def message(self) -> str:
        """One line for people."""
        explained = (type(self).__doc__ or "").strip().partition("\n")[0]
        return " ".join(str(self).split()) or f"{type(self).__name__}: {explained}"

    def describe(self) -> dict[str, Any]:
        """For programs: `error` is the name of the reason, `message` the line for people; then what else is known."""
        return {"error": type(self).__name__, "message": self.message}


class ProtocolError(MyelinError):
    """Outside bytes broke a rule of the protocol. Never raised for a bug of ours."""


class DecodeError(ProtocolError):
    """Bytes are not the canonical encoding of the expected type."""


class AddressError(ProtocolError):
    """Text is not a valid SS58 address for this chain."""
