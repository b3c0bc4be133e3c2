"""All JSON-RPC methods: importing this module fills the table."""

from __future__ import annotations

from node.api import chain_methods, inference_methods
from node.api.table import METHODS, NodeView, call_method

__all__ = ["METHODS", "NodeView", "call_method", "chain_methods", "inference_methods"]
