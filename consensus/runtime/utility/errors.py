"""How a batch itself fails; the calls in it fail with errors of their own modules."""

from __future__ import annotations

from consensus.runtime.errors import CallError
from proto_specs.types.calls import ModuleIndex


class UtilityError(CallError):
    """Root of this module's errors."""

    module = ModuleIndex.UTILITY


class EmptyBatch(UtilityError):
    """A batch has at least one call."""
