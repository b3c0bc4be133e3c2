"""The root of all errors that a user can act on, and the errors of bytes off a wire or disk. Knows no caller."""

from __future__ import annotations

import enum
from typing import Any, ClassVar


class ExitStatus(enum.IntEnum):
    """The exit statuses of a `myelin` process. README.md has the table for users; a process returns no other status."""

    DONE = 0
    REFUSED = 1
    """The reason is on standard error; also used for a bug of ours, with its traceback."""
    WRONG_USAGE = 2
    NOT_VERIFIED = 3
    """A stage failed verification, or could not be verified: the client was refunded."""
    WORKER_LOST = 4
    """A worker failed during a request: the escrow returns."""
    UNREACHABLE = 5
    """No node answers."""
    INTERRUPTED = 130


class MyelinError(Exception):
    """Root of every typed error of the five packages. Its text names what is wrong and says what to do about it.

    Never raised for a bug of ours: those are assertions, and show a traceback. A class without a text of its own is
    explained by its docstring.
    """

    exit_status: ClassVar[ExitStatus] = ExitStatus.REFUSED
    """The exit status of the command that the error ends."""

    @property
    def message(self) -> str:
        """The error in a line for people."""
        explained = (type(self).__doc__ or "").strip().partition("\n")[0]
        return " ".join(str(self).split()) or f"{type(self).__name__}: {explained}"

    def describe(self) -> dict[str, Any]:
        """The error for programs: `error` names the reason, `message` is the line for people; then further details."""
        return {"error": type(self).__name__, "message": self.message}


class ProtocolError(MyelinError):
    """Outside bytes broke a rule of the protocol. Never raised for a bug of ours."""


class DecodeError(ProtocolError):
    """Bytes are not the canonical encoding of the expected type."""


class AddressError(ProtocolError):
    """Text is not a valid SS58 address for this chain."""
