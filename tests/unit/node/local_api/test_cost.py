"""The endpoint charges what the document says: over HTTP and WebSocket, a batch for the sum of its calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from node.local_api.wire.access import BODY
from node.local_api.wire.errors import LIMIT_EXCEEDED
from tests.unit.node.local_api.wire import serve_known_chain

CALLS_PER_S = 60
"""A burst of 120 is two blocks and some."""


def make_batch(*methods: str) -> str:
    return json.dumps([{"jsonrpc": "2.0", "id": at, "method": name} for at, name in enumerate(methods)])


def list_refused(answers: list[Any]) -> list[int]:
    """The places of the refused calls; each is told when it can be made."""
    refused = [one for one in answers if "error" in one]
    assert all(one["error"]["code"] == LIMIT_EXCEEDED for one in refused)
    assert all(0 < one["error"]["data"]["wait_ms"] <= 1_000 * BODY // CALLS_PER_S + 1 for one in refused)
    return [one["id"] for one in refused]


def test_two_blocks_and_some_looks_are_a_burst(tmp_path: Path) -> None:
    batch = make_batch("system_health", "chain_getBlock", "chain_getBlock", "chain_getBlock", "system_health")
    with serve_known_chain(tmp_path, CALLS_PER_S) as wire:
        assert list_refused(wire.post(batch.encode(), {})) == [3]
        with wire.open_socket() as socket:
            socket.send_text(make_batch(*["chain_getBlock"] * 3))
            assert 2 in list_refused(json.loads(socket.receive_text())), "it is the same client, whatever it comes by"
