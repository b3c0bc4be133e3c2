"""Which methods change the node and are for its operator alone. The RPC process refuses them to anybody else."""

from __future__ import annotations

UNSAFE_METHODS = frozenset({"author_removeExtrinsic"})
