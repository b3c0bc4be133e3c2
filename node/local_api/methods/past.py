"""Which state a method reads: that after the last block, or after the block a call names, as far back as it is kept."""

from __future__ import annotations

from node.local_api.methods.params import Params
from node.local_api.methods.table import NodeView, show_bytes
from node.local_api.wire.errors import STATE_UNAVAILABLE, ApiError
from node.store.chain_store import StateUnavailable, StateView


def take_state(view: NodeView, params: Params) -> StateView:
    """The state at the optional last parameter `block`, unmoved by blocks to come. No parameter may be left over.

    Raises ApiError: STATE_UNAVAILABLE, its data with the oldest and newest height whose state is here.
    """
    block = params.take_optional_block("block")
    params.finish()
    if block is None:
        return view.store.view()
    height = find_height(view, block)
    if height is None:
        assert isinstance(block, bytes), "a height is found as it is"
        kept = {"oldest": view.store.oldest_state, "newest": view.store.get_head().height}
        text = f"no block {show_bytes(block)} is known here"
        raise ApiError(STATE_UNAVAILABLE, text, {"reason": "UnknownBlock", "block": show_bytes(block), **kept})
    try:
        return view.store.view_at(height)
    except StateUnavailable as error:
        kept = {"height": error.height, "oldest": error.oldest, "newest": error.newest}
        raise ApiError(STATE_UNAVAILABLE, str(error), {"reason": "StateUnavailable", **kept}) from error


def find_height(view: NodeView, block: int | bytes) -> int | None:
    """The height of a block by height or hash, the genesis hash being 0; None for a hash nobody knows."""
    if isinstance(block, int):
        return block
    return 0 if block == view.store.genesis_hash else view.store.find_height(block)
