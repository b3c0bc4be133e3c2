"""Frames of the local socket, shared by the node and its RPC process: a length in four bytes, then JSON.

A frame is {"id", "calls": [[method, params], ...]}, its answer {"id", "answers": [{"result"} or {"error"}, ...]} in the
order of the calls. A connection that calls `subscribe_heads` also gets every finalized header with the hashes of its
transactions, as {"head": ...}.
"""

from __future__ import annotations

import struct
from typing import Any

FRAME_BYTES_MAX = 64 << 20
HEAD = struct.Struct(">I")
SUBSCRIBE_HEADS = "subscribe_heads"
CALLS_MAX = 100
"""Calls in a frame, and in a JSON-RPC batch."""
Params = list[Any] | dict[str, Any]
