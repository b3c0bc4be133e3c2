"""JSON-RPC methods about the past of an account, a key, a request or a kind of event, newest first. Reads the index."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from consensus.runtime.balances.state import read_issuance
from consensus.runtime.events import Event
from node.local_api.methods.params import Params
from node.local_api.methods.past import take_state
from node.local_api.methods.schemas import (
    BLOCK,
    HASH,
    INTEGER,
    OBJECT,
    TEXT,
    Parameter,
    list_of,
    object_of,
    or_null,
)
from node.local_api.methods.table import NodeView, method, show_bytes
from node.local_api.wire.errors import STATE_UNAVAILABLE, ApiError
from node.store.chain_store import BlockReceipts
from node.store.subject_index import Mention, compute_kind_subject
from proto_specs.types.chain import Block, compute_extrinsic_hash

ITEMS_MAX = 100
BLOCKS_MAX = 64
"""Blocks that one call reads; a page of few items goes on from `next`."""
EVENT_TYPES = frozenset(one.__name__ for part in Event.__args__ for one in getattr(part, "__args__", (part,)))

SUBJECT = Parameter(
    "subject", TEXT, "An address, 32 bytes as 0x hex (account, key, id), or an event's name such as RequestSettled."
)
TYPES = Parameter(
    "types", or_null(list_of(TEXT)), "Names of events: only these; Transaction for what it signed.", is_required=False
)
BEFORE = Parameter("before", or_null(INTEGER), "Only blocks below this height: `next` of the page before.", False)


@method(
    "history_events",
    takes=(SUBJECT, TYPES, BEFORE),
    gives=object_of(
        items=list_of(
            object_of(
                height=INTEGER,
                phase={"enum": ["initialize", "extrinsic", "finalize"]},
                index=or_null(INTEGER),
                extrinsic=or_null(HASH),
                event=or_null(OBJECT),
                transaction=or_null(OBJECT),
            )
        ),
        next=or_null(INTEGER),
        oldest=INTEGER,
    ),
    is_bulky=True,
)
def history_events(view: NodeView, params: Params) -> Any:
    """Events that name a subject, and transactions that it signed: whole blocks, the newest first, about 100 items.

    `oldest` is the block with which the index begins; without one STATE_UNAVAILABLE.
    """
    subject = params.take_subject("subject", EVENT_TYPES)
    types = params.take_optional_names("types", EVENT_TYPES | {"Transaction"})
    before = params.take_optional_height("before")
    params.finish()
    head, index = view.store.get_head().height, view.store.index
    if index.start is None:
        text = "this node keeps no index: start it with --index, and blocks from then on are in it"
        raise ApiError(STATE_UNAVAILABLE, text, {"reason": "NoIndex"})
    wanted = compute_kind_subject(subject) if isinstance(subject, str) else subject
    below = head + 1 if before is None else min(before, head + 1)
    items: list[Any] = []
    following: int | None = None
    for count, (height, places) in enumerate(index.list_places(wanted, below, view.store.oldest_body)):
        if count == BLOCKS_MAX or len(items) >= ITEMS_MAX:
            following = height + 1
            break
        items += _show_places(view, height, places, types)
    return {"items": items, "next": following, "oldest": max(index.start, view.store.oldest_body)}


def _show_places(view: NodeView, height: int, places: list[Mention], types: frozenset[str] | None) -> Iterator[Any]:
    block, left = view.store.get_block(height), view.store.get_receipts(height)
    if block is None or left is None:
        return  # pruned since
    for place in reversed(places):
        name, shown = _show_place(view, block, left, place)
        if types is None or name in types:
            yield {"height": height, "phase": place.phase, "index": place.index, **shown}


def _show_place(view: NodeView, block: Block, left: BlockReceipts, place: Mention) -> tuple[str, dict[str, Any]]:
    extrinsic: str | None = None
    events = left.events.initialize if place.phase == "initialize" else left.events.finalize
    if place.index is not None:
        transaction = block.transactions[place.index]
        extrinsic, events = show_bytes(compute_extrinsic_hash(transaction)), left.receipts[place.index].events
        if place.event is None:
            return "Transaction", {"extrinsic": extrinsic, "event": None, "transaction": view.show(transaction)}
    assert place.event is not None, "only a transaction is named without an event"
    event: Any = events[place.event]
    return type(event).__name__, {"extrinsic": extrinsic, "event": view.show(event), "transaction": None}


@method("balances_supply", takes=(BLOCK,), gives=object_of(issuance=INTEGER))
def balances_supply(view: NodeView, params: Params) -> Any:
    """All nmyl that there are, after the last block or the one named."""
    return {"issuance": read_issuance(take_state(view, params))}
