"""Bytes that are no frames, frames of the wrong kind and of unknown requests: the stream ends, the worker serves on."""

from __future__ import annotations

import pytest
import trio

from inference.serving.client import SettlementSent
from node.p2p.errors import NetworkError
from proto_specs.codec import encode
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.types.wire import REQUEST_PROTOCOL, STAGE_PROTOCOL, Countersign, Failed, Frame, Rows, Token
from tests.integration.serving.conftest import Model
from tests.integration.serving.network import Network, open_network

GARBAGE = [
    b"\0",
    b"\xff" * 5_000,
    b"\x91" * 100_000,
    encode(Rows(b"r" * 32, 0, 0, 1, b"1234"), Frame),
    encode(Token(b"r" * 32, 0, 1, 0), Frame),
    encode(Countersign(b"r" * 32, 1, 0, b"s" * 64), Frame),
    encode(Failed(b"r" * 32, 200, "?"), Frame),
]


async def send(network: Network, stage: int, protocol: str, payload: bytes) -> None:
    """One frame, and whatever comes back until the stream ends or stays silent."""
    address = network.stages[stage].entry.addresses[0]
    stream = await network.client.open_stream(address, protocol, max_frame_bytes=FRAME_BYTES_MAX)
    with trio.move_on_after(0.2):
        try:
            await stream.send(payload)
            while True:
                await stream.receive()
        except NetworkError:
            return
    stream.reset("nothing more to say")


@pytest.mark.parametrize("protocol", [REQUEST_PROTOCOL, STAGE_PROTOCOL])
async def test_garbage_ends_its_stream_alone(model: Model, protocol: str) -> None:
    async with open_network(model, [(0, 10), (10, 20), (20, 30)]) as network:
        for stage in range(3):
            for payload in GARBAGE:
                await send(network, stage, protocol, payload)
        tokens, end = await network.ask(network.make_order((1, 2, 3), 4, 0), (1, 2, 3))
        assert isinstance(end, SettlementSent), end
        assert tokens
