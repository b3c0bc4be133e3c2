"""Frames of peers that have no such part in a request end their stream, and touch nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from node.client.link import make_failed
from node.worker.active import StrayFrame
from node.worker.requests import Requests
from proto_specs.limits import FAILURE_TEXT_BYTES_MAX
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import SignedStageRoots, StageRoots
from proto_specs.types.wire import (
    Accepted,
    Countersign,
    Failed,
    FailureCode,
    FinishReason,
    Frame,
    Ping,
    Pong,
    PrefixRoots,
    RootsFrame,
    Rows,
    Token,
)
from tests.unit.node.worker.test_active import Bench, FakeLink

ROOTS = SignedStageRoots(StageRoots(ZERO_HASH, 0, 1, 1, ZERO_HASH, ZERO_HASH), bytes(64))
STRAYS: list[tuple[int, str, Callable[[bytes], Frame]]] = [
    (0, "client", lambda one: Token(one, 0, 5, FinishReason.NONE)),
    (0, "client", lambda one: RootsFrame((ROOTS,))),
    (0, "client", lambda one: Countersign(one, 1, 0, bytes(64))),
    (1, "client", lambda one: Rows(one, 1, 0, 1, bytes(16))),
    (1, "peer2", lambda one: Rows(one, 1, 0, 1, bytes(16))),
    (1, "stranger", lambda one: Rows(one, 1, 0, 1, bytes(16))),
    (1, "stranger", lambda one: Failed(one, 1, "")),
    (1, "peer0", lambda one: Token(one, 0, 5, FinishReason.NONE)),
    (1, "peer0", lambda one: Countersign(one, 2, 0, bytes(64))),
    (2, "peer0", lambda one: Rows(one, 2, 0, 1, bytes(16))),
    (2, "peer1", lambda one: Countersign(one, 3, 0, bytes(64))),
    (2, "peer1", lambda one: Accepted(one)),
    (0, "peer1", lambda one: Rows(one, 0, 0, 1, bytes(4))),
    (0, "client", lambda one: PrefixRoots((ROOTS,))),
    (1, "client", lambda one: PrefixRoots((ROOTS,))),
    (1, "peer2", lambda one: PrefixRoots((ROOTS,))),
    (1, "peer0", lambda one: Ping(one, 1)),
    (2, "stranger", lambda one: Ping(one, 1)),
    (0, "client", lambda one: Pong(one, 1, 0, 0, 0, 0)),
]


@pytest.mark.parametrize(("stage", "sender", "make"), STRAYS)
async def test_frames_of_the_wrong_peer_close_its_stream_and_touch_nothing(stage: int, sender: str, make) -> None:
    bench = Bench(stage=stage, stages=3)
    link = bench.client if sender == "client" else FakeLink(sender)
    with pytest.raises(StrayFrame):
        bench.active.post(make(bench.request), link)  # type: ignore[arg-type]
    assert bench.active._inbox.waiting == 0  # noqa: SLF001


async def test_a_frame_of_an_unknown_request_is_answered_and_answers_are_not() -> None:
    requests, link = Requests(), FakeLink("stranger")
    requests.route(Token(b"u" * 32, 0, 1, 0), link)  # type: ignore[arg-type]
    requests.route(make_failed(b"u" * 32, FailureCode.INTERNAL, ""), link)  # type: ignore[arg-type]
    requests.route(RootsFrame(()), link)  # type: ignore[arg-type]
    assert [type(one) for one in link.sent] == [Failed]


@pytest.mark.parametrize("text", ["", "a" * 2000, "\N{GRINNING FACE}" * 500, "é" * 400, "x" + "é" * 400])
def test_failure_texts_of_any_length_fit_a_frame(text: str) -> None:
    failed = make_failed(bytes(32), FailureCode.INTERNAL, text)
    assert len(failed.message.encode()) <= FAILURE_TEXT_BYTES_MAX
    assert text.startswith(failed.message)
