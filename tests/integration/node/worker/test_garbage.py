"""Garbage on every protocol of a worker: refused with a typed error, no bug met, and the next honest request served."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable

import pytest
import trio

from inference.serving.client import SettlementSent
from node.client.link import FrameLink, make_failed
from node.p2p.errors import NetworkError, RequestRefused, StreamReset
from node.p2p.request import request as ask_peer
from proto_specs.codec import encode
from proto_specs.limits import FRAME_BYTES_MAX
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import Leaf, OpeningRequest, SignedStageRoots, StageRoots, Voucher, sign_voucher
from proto_specs.types.wire import (
    OPENING_PROTOCOL,
    REQUEST_PROTOCOL,
    STAGE_PROTOCOL,
    Accepted,
    Countersign,
    Failed,
    FailureCode,
    FinishReason,
    Frame,
    OpenRequest,
    OutputLeaf,
    RootsFrame,
    Rows,
    Settled,
    Token,
    VoucherFrame,
)
from tests.integration.conftest import Model
from tests.integration.node.worker.network import SESSION_KEY, Network, open_network

RANGES = [(0, 10), (10, 20), (20, 30)]
PROMPT = (1, 2, 3)
UNKNOWN = b"u" * 32
LEAF = Leaf(UNKNOWN, 1, 0, 0, 1, 576, 0, ZERO_HASH, ZERO_HASH, ZERO_HASH)
ROOTS = SignedStageRoots(StageRoots(UNKNOWN, 0, 1, 1, ZERO_HASH, ZERO_HASH), bytes(64))
TRUNCATED = encode(Rows(UNKNOWN, 0, 0, 1, bytes(4)), Frame)[:-3]
BYTES = (b"\x00", b"\xc1", bytes(1000), b"\x93" * 500, TRUNCATED, encode(ROOTS), b"\x98\x01" + bytes(60), bytes(10**6))
FRAMES: tuple[Frame, ...] = (
    Accepted(UNKNOWN),
    Failed(UNKNOWN, 250, "what"),
    Rows(UNKNOWN, 1, 0, 1, bytes(2304)),
    OutputLeaf(LEAF, bytes(64)),
    Countersign(UNKNOWN, 1, 0, bytes(64)),
    Token(UNKNOWN, 0, 1, FinishReason.NONE),
    VoucherFrame(sign_voucher(Voucher(UNKNOWN, 1, ZERO_HASH, True), SESSION_KEY)),
    RootsFrame(()),
    RootsFrame((ROOTS,)),
    Settled(UNKNOWN, ZERO_HASH),
)


@pytest.fixture
async def network(model: Model, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Network]:
    """Serves an honest request after whatever the test has done, and has met no bug."""
    caplog.set_level(logging.DEBUG, "node")
    async with open_network(model, RANGES) as found:
        yield found
        tokens, end = await found.ask(found.make_order(PROMPT, 4, 1000), PROMPT)
        assert isinstance(end, SettlementSent), end
        assert tokens
        await found.wait_idle()
        bugs = [one for one in caplog.records if one.exc_info or one.levelno >= logging.ERROR]
        assert bugs == [], [one.getMessage() for one in bugs]


async def send_and_wait(network: Network, stage: int, protocol: str, payload: bytes) -> NetworkError | bytes:
    """What comes of one frame on a fresh stream: the first answer, or how the stream ended."""
    address = network.stages[stage].entry.addresses[0]
    stream = await network.client.open_stream(address, protocol, max_frame_bytes=2 * FRAME_BYTES_MAX)
    async with stream:
        try:
            with trio.fail_after(5):
                await stream.send(payload)
                return await stream.receive()
        except NetworkError as error:
            return error


@pytest.mark.parametrize("protocol", [REQUEST_PROTOCOL, STAGE_PROTOCOL, OPENING_PROTOCOL])
async def test_garbage_and_oversized_frames_reset_their_stream(
    network: Network, caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    for stage in range(3):
        for payload in (*BYTES, bytes(FRAME_BYTES_MAX + 1)):
            end = await send_and_wait(network, stage, protocol, payload)
            assert isinstance(end, StreamReset), (stage, payload[:20], end)
    typed = [one.getMessage() for one in caplog.records if "DecodeError" in one.getMessage()]
    assert len(typed) >= len(BYTES), "garbage is logged for what it is"


async def test_a_frame_that_opens_nothing_is_refused_on_the_request_protocol(
    network: Network, caplog: pytest.LogCaptureFixture
) -> None:
    for frame in FRAMES:
        end = await send_and_wait(network, 0, REQUEST_PROTOCOL, encode(frame, Frame))
        assert isinstance(end, StreamReset), frame
    assert sum("begins with OpenRequest" in one.getMessage() for one in caplog.records) == len(FRAMES)


async def test_frames_of_unknown_requests_are_answered_and_nothing_is_kept(network: Network) -> None:
    answer = encode(make_failed(UNKNOWN, FailureCode.INTERNAL, "no such request is under way here"), Frame)
    for stage in range(3):
        address = network.stages[stage].entry.addresses[0]
        stream = await network.client.open_stream(address, STAGE_PROTOCOL, max_frame_bytes=FRAME_BYTES_MAX)
        async with stream:
            answered = [one for one in FRAMES if not isinstance(one, Accepted | Failed | Settled)]
            for frame in FRAMES:
                await stream.send(encode(frame, Frame))
            with trio.fail_after(5):
                for _ in range(len(answered) - 1):  # RootsFrame(()) names no request
                    assert await stream.receive() == answer
        assert len(network.stages[stage].server.requests) == 0


async def test_an_order_on_the_stage_protocol_opens_nothing(network: Network) -> None:
    order = network.make_order(PROMPT, 4, 1)
    stream = await network.client.open_stream(
        network.stages[0].entry.addresses[0], STAGE_PROTOCOL, max_frame_bytes=FRAME_BYTES_MAX
    )
    async with stream:
        await stream.send(encode(OpenRequest(order), Frame))
        await stream.send(encode(Token(UNKNOWN, 0, 1, 0), Frame))
        with trio.fail_after(5):
            await stream.receive()  # the answer to the token: the order was seen, and passed over
    assert len(network.stages[0].server.requests) == 0


OPENINGS: list[tuple[bytes, str]] = [
    (b"\x00", "DecodeError"),
    (bytes(100), "DecodeError"),
    (encode(OpeningRequest(UNKNOWN, 0, 0))[:-1], "DecodeError"),
    (encode(OpeningRequest(UNKNOWN, 0, 0)), "OpeningUnavailable"),
    (encode(OpeningRequest(UNKNOWN, 255, 65_535)), "OpeningUnavailable"),
]


async def test_openings_of_anything_else_are_refused_with_a_reason(network: Network) -> None:
    for stage in range(3):
        for body, reason in OPENINGS:
            with pytest.raises(RequestRefused, match=reason):
                await ask_peer(network.client, network.stages[stage].entry.addresses[0], OPENING_PROTOCOL, body)
        with pytest.raises(NetworkError):
            await ask_peer(network.client, network.stages[stage].entry.addresses[0], OPENING_PROTOCOL, bytes(257))


async def test_a_stranger_s_frames_about_a_running_request_touch_nothing(network: Network) -> None:
    """Rows, tokens, roots and failures of a peer that is no part of the path, in the middle of the generation."""
    order = network.make_order(PROMPT, 40, 1)
    makers: list[Callable[[bytes], Frame]] = [
        lambda one: Rows(one, 1, 0, 1, bytes(2304)),
        lambda one: Token(one, 3, 1, FinishReason.STOP),
        lambda one: Failed(one, FailureCode.BAD_INPUT, "from nobody"),
        lambda one: Countersign(one, 2, 0, bytes(64)),
    ]
    ends: list[object] = []

    async def ask() -> None:
        ends.append((await network.ask(order, PROMPT))[1])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        with trio.fail_after(10):
            while not all(len(one.server.requests) for one in network.stages):
                await trio.sleep(0.005)
        (request,) = network.stages[1].server.requests._active  # noqa: SLF001
        for stage in range(3):
            for make in makers:
                end = await send_and_wait(network, stage, STAGE_PROTOCOL, encode(make(request), Frame))
                assert isinstance(end, StreamReset)
    assert isinstance(ends[0], SettlementSent), ends


async def test_an_opener_that_says_nothing_is_let_go(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.worker.server.OPEN_TIMEOUT_S", 0.2)
    stream = await network.client.open_stream(network.stages[0].entry.addresses[0], REQUEST_PROTOCOL)
    async with stream:
        with trio.fail_after(5), pytest.raises(StreamReset):
            await stream.receive()


async def test_a_client_that_breaks_off_with_garbage_frees_every_worker(network: Network) -> None:
    order = network.make_order(PROMPT, 400, 1)
    async with trio.open_nursery() as nursery:
        links, streams = [], []
        for one in network.make_peers():
            stream = await network.client.open_stream(
                one.addresses[0], REQUEST_PROTOCOL, max_frame_bytes=FRAME_BYTES_MAX
            )
            streams.append(stream)
            links.append(FrameLink(stream, one.peer_id))
            nursery.start_soon(links[-1].run)
            links[-1].send(OpenRequest(order))
        for link in links:
            assert isinstance(await link.receive(), Accepted)
        assert all(one.engine.open_requests == 1 for one in network.stages)
        for stream in streams:
            await stream.send(b"\xc1")
        await network.wait_idle()
        nursery.cancel_scope.cancel()
