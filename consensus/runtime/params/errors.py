"""Errors of proposals and votes, and the error for parameters that contradict each other."""

from __future__ import annotations

from consensus.runtime.errors import CallError, RuntimeRefusal
from proto_specs.types.calls import ModuleIndex


class UnsoundParams(RuntimeRefusal):
    """No chain can run with these parameters. `field` is the `module.field` to blame, the text says why."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field} {text}")
        self.field = field
        self.text = text


class ParamsError(CallError):
    """Root of this module's errors."""

    module = ModuleIndex.PARAMS


class NotElected(ParamsError):
    """Only operators of currently elected validators propose and vote."""


class ProposalOpen(ParamsError):
    """The operator's earlier proposal is still open: one at a time."""


class NoChanges(ParamsError):
    """A proposal changes at least one parameter."""


class UnknownParam(ParamsError):
    """There is no parameter of this name."""


class DuplicateParam(ParamsError):
    """A proposal names each parameter once."""


class FixedParam(ParamsError):
    """Genesis sets this parameter for ever."""


class OutOfBounds(ParamsError):
    """The value is below the least or above the most that a vote may set."""


class InconsistentParams(ParamsError):
    """With the parameters as they are now, these values contradict each other."""


class UnknownProposal(ParamsError):
    """No open proposal has this number: it was never made, or its votes are counted."""
