"""All JSON-RPC methods: importing this module fills the table."""

from __future__ import annotations

from node.api import author_methods, chain_methods, inference_methods, ledger_methods, openrpc, state_methods
from node.api.table import METHODS, NodeView, call_method

__all__ = [
    "METHODS",
    "NodeView",
    "author_methods",
    "call_method",
    "chain_methods",
    "inference_methods",
    "ledger_methods",
    "openrpc",
    "state_methods",
]
