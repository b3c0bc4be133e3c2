"""Events of batches, besides the events of their calls."""

from __future__ import annotations

from typing import Annotated

from proto_specs.codec import U8, U16, Max, variant
from proto_specs.limits import ERROR_NAME_BYTES_MAX


@variant(0x0601)
class ItemCompleted:
    """Call `item` of a BatchEach, counted from 0, succeeded: its events are the ones since the last item's."""

    item: U16


@variant(0x0602)
class ItemFailed:
    """Call `item` of a BatchEach, counted from 0, failed with this error: it changed nothing."""

    item: U16
    module: U8
    error: Annotated[str, Max(ERROR_NAME_BYTES_MAX)]


UtilityEvent = ItemCompleted | ItemFailed
