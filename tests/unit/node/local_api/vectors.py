"""Writes vectors/rpc.json, requests and answers on a known chain: `python -m tests.unit.node.local_api.vectors`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import proto_specs
from tests.unit.node.local_api.asks import Ask, list_asks
from tests.unit.node.local_api.transcripts import record_subscriptions
from tests.unit.node.local_api.wire import Wire, serve_known_chain

PATH = Path(proto_specs.__file__).parent / "vectors" / "rpc.json"
FORMAT = (
    "exchanges: requests over HTTP and their answers, in this order; bodies: request texts that are no single request; "
    "subscriptions: what goes over one WebSocket each, and the blocks in between (rpc.md, Vectors)"
)
BODIES = {
    "no JSON": "{",
    "no request": "[1]",
    "an empty batch": "[]",
    "another version": '{"jsonrpc":"1.0","id":1,"method":"system_name"}',
    "an id that is none": '{"jsonrpc":"2.0","id":[],"method":"system_name"}',
    "params that are none": '{"jsonrpc":"2.0","id":1,"method":"system_name","params":1}',
    "no such method": '{"jsonrpc":"2.0","id":1,"method":"system_nothing"}',
    "a subscription over HTTP": '{"jsonrpc":"2.0","id":1,"method":"chain_subscribeNewHeads"}',
    "a notification": '{"jsonrpc":"2.0","method":"system_name"}',
    "a batch": '[{"jsonrpc":"2.0","id":"a","method":"system_name"},{"jsonrpc":"2.0","method":"system_chain"},'
    '{"jsonrpc":"2.0","id":null,"method":"system_nothing"},{"jsonrpc":"2.0","id":2.5,"method":"system_chain"},7]',
}


def record(wire: Wire) -> dict[str, Any]:
    """The file's content."""
    asks = list_asks(wire.chain)
    return {
        "format": FORMAT,
        "exchanges": [_exchange(wire, number, one) for number, one in enumerate(asks, 1)],
        "bodies": [
            {"case": case, "request": text, "response": wire.post(text.encode(), {})} for case, text in BODIES.items()
        ],
        "subscriptions": record_subscriptions(wire),
    }


def _exchange(wire: Wire, number: int, ask: Ask) -> dict[str, Any]:
    request = {"jsonrpc": "2.0", "id": number, "method": ask.method, "params": ask.params}
    response = wire.post(json.dumps(request).encode(), ask.headers)
    headers = {"headers": ask.headers} if ask.headers else {}
    return {"case": ask.case, **headers, "request": request, "response": response}


def main() -> None:
    """Write it."""
    with tempfile.TemporaryDirectory() as directory, serve_known_chain(Path(directory)) as wire:
        PATH.write_text(json.dumps(record(wire), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
