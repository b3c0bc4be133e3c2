"""Errors that a call of any module can meet."""

from __future__ import annotations

from consensus.runtime.errors import CallError
from proto_specs.types.calls import ModuleIndex


class SystemCallError(CallError):
    """Root of this module's errors."""

    module = ModuleIndex.SYSTEM


class TooManyEvents(SystemCallError):
    """The extrinsic would have more events than a receipt holds."""
