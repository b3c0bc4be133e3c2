"""Events of the system module."""

from __future__ import annotations

from typing import Annotated

from proto_specs.codec import U8, U16, Max, variant
from proto_specs.limits import ERROR_NAME_BYTES_MAX
from proto_specs.types.common import AccountId, Hash32


@variant(0x0101)
class ExtrinsicFailed:
    """The call failed with this error: its fee is charged, nothing else happened. `item` is the index in a batch."""

    module: U8
    error: Annotated[str, Max(ERROR_NAME_BYTES_MAX)]
    item: U16 | None = None


@variant(0x0102)
class Remarked:
    """Bytes were put on chain; `hash` is `hash_tagged(PAYLOAD, data)`."""

    who: AccountId
    hash: Hash32
