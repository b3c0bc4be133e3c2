"""Results of a block besides its state: a receipt per transaction, the events of its phases, and their root."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from consensus.runtime.events import Event
from consensus.state.overlay import Change
from proto_specs import limits
from proto_specs.codec import U8, U16, U64, Max, encode, record
from proto_specs.merkle import compute_root
from proto_specs.types.common import Balance, Hash32


@record
class ModuleError:
    """The module that refused the call, the name of its error, and the index from 0 of the failed call of a batch."""

    module: U8
    error: Annotated[str, Max(limits.ERROR_NAME_BYTES_MAX)]
    item: U16 | None = None


@record
class Receipt:
    """The result of a transaction. `error` is None when the call succeeded."""

    extrinsic: Hash32
    error: ModuleError | None
    fee: Balance
    tip: Balance
    weight: U64
    events: Annotated[tuple[Event, ...], Max(limits.EVENTS_PER_EXTRINSIC_MAX)]


@record
class BlockEvents:
    """The events before the first transaction (deadlines, draws, evidence) and after the last."""

    initialize: Annotated[tuple[Event, ...], Max(limits.LIST_ITEMS_MAX)]
    finalize: Annotated[tuple[Event, ...], Max(limits.LIST_ITEMS_MAX)]


@dataclass(frozen=True, slots=True)
class ExecutedBlock:
    """The result of a block: sorted state changes with the values they replace, receipts in the order of the
    transactions, events, sizes.
    """

    changes: tuple[Change, ...]
    previous: tuple[bytes | None, ...]
    receipts: tuple[Receipt, ...]
    events: BlockEvents
    weight: int
    size_bytes: int

    @property
    def receipts_root(self) -> bytes:
        """The receipts root that the header commits to."""
        return compute_receipts_root(self.receipts, self.events)


def compute_receipts_root(receipts: tuple[Receipt, ...], events: BlockEvents) -> bytes:
    """Merkle root over the block's events, then every receipt: receipt i is item i + 1."""
    return compute_root([encode(events), *(encode(one) for one in receipts)])
