"""What the chain made of a request, for every way its stages can end."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from consensus.runtime.inference.state import Challenge, CommitteeMember, Request, RequestStage, StageStatus
from node.client.answer import Resolution
from node.client.outcome import make_absent, make_outcome, read_stated_outcome
from node.client.statement_files import StatedRequest
from proto_specs.types.calls import Outcome
from proto_specs.types.request import PathStage
from proto_specs.types.sum_tree import RequestLeaf

PAID, OPEN, DRAWN = StageStatus.PAID, StageStatus.AWAITING_DRAW, StageStatus.CHALLENGED
REFUNDED, SLASHED = StageStatus.REFUNDED, StageStatus.SLASHED
ZERO = bytes(32)


def make_request(*statuses: StageStatus) -> Request:
    stages = tuple(
        RequestStage(bytes([at]) * 32, ZERO, at, at + 1, 10, 1, status, ZERO, ZERO, 64)
        for at, status in enumerate(statuses)
    )
    return Request(ZERO, 0, ZERO, ZERO, 7, 3, 2, ZERO, True, 4, 1, 0, None, 20, 0, 5, ZERO, 0, stages)


def make_challenge(outcome: Outcome | None) -> Challenge:
    member = CommitteeMember(ZERO, 1)
    return Challenge(ZERO, 0, 0, ZERO, ZERO, ZERO, 8, 9, 10, 8_000, (member,), 1, 1, outcome, 33, (), 0)


@pytest.mark.parametrize(
    ("statuses", "drawn", "expected"),
    [
        ((PAID, PAID), (Outcome.PASS, Outcome.PASS), Resolution.VERIFIED),
        ((PAID, PAID), (Outcome.PASS, "not drawn"), Resolution.PAID),
        ((PAID, OPEN), (Outcome.PASS, "not drawn"), Resolution.SETTLED),
        ((PAID, DRAWN), (Outcome.PASS, None), Resolution.SETTLED),
        ((SLASHED, DRAWN), (Outcome.FAIL, None), Resolution.SETTLED),
        ((SLASHED, REFUNDED), (Outcome.FAIL, Outcome.FAIL), Resolution.SLASHED),
        ((PAID, REFUNDED), (Outcome.PASS, Outcome.UNAVAILABLE), Resolution.REFUNDED),
    ],
)
def test_resolutions(statuses: tuple, drawn: tuple, expected: Resolution) -> None:
    challenges = [None if one == "not drawn" else make_challenge(one) for one in drawn]
    found = make_outcome(b"r" * 32, make_request(*statuses), challenges)
    assert found.resolution is expected
    assert (found.height, found.price, found.returned) == (7, 20, 5)
    for stage, one in zip(found.stages, drawn, strict=True):
        assert stage.is_drawn == (one != "not drawn")
        assert stage.distance_ppb == (33 if isinstance(one, Outcome) else None)


@pytest.mark.parametrize(
    ("statuses", "resolution", "returned"),
    [
        ((PAID, PAID), Resolution.PAID, 0),
        ((PAID, REFUNDED), Resolution.REFUNDED, 7),
        ((SLASHED, PAID), Resolution.SLASHED, 7),
    ],
)
def test_a_request_in_a_statement_has_its_share(
    monkeypatch: pytest.MonkeyPatch, statuses: tuple, resolution: Resolution, returned: int
) -> None:
    """Three prompt tokens at 1 nmyl and two new ones at 2, in each of two layers."""
    path = tuple(PathStage(bytes([at]) * 32, at, at + 1, 1, 2) for at in range(2))
    leaf = RequestLeaf(b"r" * 32, 0, 0, 99, 3, 0, 4, 2, ZERO, True, (ZERO,) * 3)
    stated = StatedRequest(b"s" * 32, SimpleNamespace(path=path), leaf)  # type: ignore[arg-type]
    request = make_request(*statuses)
    monkeypatch.setattr(
        "node.client.outcome.read_outcome", lambda _state, one: make_outcome(one, request, [None, None])
    )
    found = read_stated_outcome(None, b"r" * 32, stated)  # type: ignore[arg-type]
    assert found is not None
    assert (found.request, found.statement, found.height) == (b"r" * 32, b"s" * 32, 7)
    assert (found.resolution, found.price, found.returned) == (resolution, 14, returned)
    monkeypatch.setattr("node.client.outcome.read_outcome", lambda *_: None)
    assert read_stated_outcome(None, b"r" * 32, stated) is None  # type: ignore[arg-type]


def test_absent_requests_are_pending_or_lost() -> None:
    assert not make_absent(ZERO, is_lost=False).resolution.is_final
    assert make_absent(ZERO, is_lost=True).resolution.is_final
