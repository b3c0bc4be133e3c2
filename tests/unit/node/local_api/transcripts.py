"""Subscriptions of the known chain as they go over a WebSocket: what is sent, what comes, and the blocks in between."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from starlette.testclient import WebSocketTestSession

from consensus.runtime.balances.state import accounts
from proto_specs.codec import encode
from proto_specs.types import calls
from tests.unit.node.local_api.asks import show
from tests.unit.node.local_api.known_chain import BOB, CHARLIE, KnownChain
from tests.unit.node.local_api.wire import Wire


class Transcript:
    """One WebSocket and all that went over it."""

    def __init__(self, wire: Wire, socket: WebSocketTestSession) -> None:
        self._wire = wire
        self._socket = socket
        self.chain = wire.chain
        self.lines: list[dict[str, Any]] = []

    def call(self, method: str, *params: Any) -> Any:
        """Send a request and take its answer, which is the next to come; the result, if it is one."""
        sent = {"jsonrpc": "2.0", "id": len(self.lines) + 1, "method": method, "params": list(params)}
        self.lines.append({"sent": sent})
        self._socket.send_text(json.dumps(sent))
        answer = self.receive()
        assert answer["id"] == sent["id"]
        return answer.get("result")

    def receive(self) -> dict[str, Any]:
        """The next message."""
        found: dict[str, Any] = json.loads(self._socket.receive_text())
        self.lines.append({"received": found})
        return found

    def block(self, what: str, make: Callable[[KnownChain], Any]) -> None:
        """One more block."""
        self._wire.add_block(make)
        self.lines.append({"block": what})


def record_subscriptions(wire: Wire) -> list[dict[str, Any]]:
    """Each kind of subscription from its beginning to its end, one after the other."""
    found = []
    for method, play in SCRIPTS.items():
        with wire.open_socket() as socket:
            transcript = Transcript(wire, socket)
            play(transcript)
        found.append({"method": method, "messages": transcript.lines})
    return found


def follow_heads(kind: str) -> Callable[[Transcript], None]:
    """Two heads, then no more."""

    def play(transcript: Transcript) -> None:
        name = transcript.call(f"chain_subscribe{kind}")
        transcript.block("one without transactions", lambda chain: chain.add_block())
        transcript.receive()
        transcript.block("one with a remark of bob", lambda chain: chain.add_block((BOB, calls.Remark(kind.encode()))))
        transcript.receive()
        for _ in range(2):
            transcript.call(f"chain_unsubscribe{kind}", name)
        transcript.call(f"chain_subscribe{kind}", 1)

    return play


def watch(transcript: Transcript) -> None:
    """From the pool into a block; refused; in a block already."""
    one = show(encode(transcript.chain.sign(CHARLIE, calls.Remark(b"watched"))))
    transcript.call("author_submitAndWatchExtrinsic", one)
    transcript.receive()
    transcript.block("one with all that waits", lambda chain: chain.add_block(*chain.node.pool.select()))
    transcript.receive()
    transcript.call("author_submitAndWatchExtrinsic", one)
    for _ in range(2):
        transcript.receive()
    transcript.call("author_submitAndWatchExtrinsic", "0x00")
    transcript.call("author_submitAndWatchExtrinsic")
    transcript.call("author_unwatchExtrinsic", "1")


def follow_storage(transcript: Transcript) -> None:
    """Two keys, one of which has no value, at once and after the block that changes the other."""
    name = transcript.call("state_subscribeStorage", [show(accounts.key(CHARLIE.account)), "0x00"])
    transcript.receive()
    transcript.block("one with a remark of charlie", lambda chain: chain.add_block((CHARLIE, calls.Remark(b"changed"))))
    transcript.receive()
    transcript.call("state_unsubscribeStorage", name)
    for wrong in ([], ["0x0"], "0x00", ["0x00"] * 65):
        transcript.call("state_subscribeStorage", wrong)


def follow_requests(transcript: Transcript) -> None:
    """A block in which a request is settled; a block in which nothing happens to one is not told of."""
    name = transcript.call("inference_subscribeRequests")
    transcript.block("one without transactions", lambda chain: chain.add_block())
    transcript.block("one in which a request is settled", lambda chain: chain.add_block((BOB, chain.settle(1))))
    transcript.receive()
    transcript.call("inference_unsubscribeRequests", name)
    transcript.call("inference_subscribeRequests", 1)


SCRIPTS: dict[str, Callable[[Transcript], None]] = {
    "chain_subscribeNewHeads": follow_heads("NewHeads"),
    "chain_subscribeFinalizedHeads": follow_heads("FinalizedHeads"),
    "author_submitAndWatchExtrinsic": watch,
    "state_subscribeStorage": follow_storage,
    "inference_subscribeRequests": follow_requests,
}
