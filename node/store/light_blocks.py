"""Light blocks out of a full node's store."""

from __future__ import annotations

from node.store.chain_store import ChainStore
from proto_specs.types.gossip import LightBlock


def find_light_block(store: ChainStore, height: int) -> LightBlock | None:
    """The light block of a height, 0 being the newest; None when header, commit or set are not stored.

    Sets are kept by hash (storage.md), so also after their state is pruned.
    """
    height = height or store.get_head().height
    header, commit = store.get_header(height), store.get_commit(height)
    if header is None or commit is None:
        return None
    validators = store.get_validators(header.validators_hash)
    return None if validators is None else LightBlock(header, commit, validators)
