"""What peers are answered: megabytes of blocks are made beside the loop, one request at a time."""

from __future__ import annotations

import threading
from typing import Any, cast

import trio
import trio.testing

from node.p2p.acceptance import Acceptance
from node.replica.network import ChainNetwork
from node.replica.world import GossipMessage, Request, Response
from proto_specs.codec import decode, encode
from proto_specs.types.gossip import BLOCKS_PROTOCOL, BlocksRequest, BlocksResponse


class Serving:
    """A host that keeps what it is to serve with, and topics that nobody publishes on."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}

    def serve_requests(self, protocol: str, answer: Any, **_limits: Any) -> None:
        self.answers[protocol] = answer

    def subscribe(self, _topic: str, _receive: Any) -> None:
        pass

    def publish(self, _topic: str, _data: bytes) -> None:
        pass


class Slow:
    """Answers when it is let, and counts how many it answers at once."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.at_once = self.most_at_once = 0

    def receive(self, _peer: str, _message: GossipMessage) -> Acceptance:
        return Acceptance.IGNORE

    def answer(self, _peer: str, request: Request) -> Response:
        assert isinstance(request, BlocksRequest)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.go.wait(10)
        self.at_once -= 1
        return BlocksResponse(request.start, ())


async def take(_peer: str, _batch: Any) -> Acceptance:
    return Acceptance.IGNORE


async def test_the_loop_goes_on_while_blocks_are_read() -> None:
    host, slow, answered = Serving(), Slow(), []
    network = ChainNetwork(cast(Any, host), cast(Any, None), bytes(32))
    network.join(host, slow, take)

    async def ask(start: int) -> None:
        body = await host.answers[BLOCKS_PROTOCOL](encode(BlocksRequest(start, 1)), "peer")
        answered.append(decode(BlocksResponse, body).head_height)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            for start in range(1, 4):
                nursery.start_soon(ask, start)
            await trio.testing.wait_all_tasks_blocked()
            assert not answered, "we run, while the answers are made"
            slow.go.set()
    assert sorted(answered) == [1, 2, 3]
    assert slow.most_at_once == 1
