"""All JSON-RPC methods: importing this module fills the table."""

from __future__ import annotations

from node.local_api.methods import author, chain, history, inference, ledger, openrpc, state
from node.local_api.methods.table import METHODS, NodeView, call_method

__all__ = [
    "METHODS",
    "NodeView",
    "author",
    "call_method",
    "chain",
    "history",
    "inference",
    "ledger",
    "openrpc",
    "state",
]
