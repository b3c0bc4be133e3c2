"""Drafted rows at one stage: held, settled, refused; and what must not stand."""

from __future__ import annotations

import pytest

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.events import (
    Compute,
    Computed,
    Drafted,
    GiveUp,
    PromptKnown,
    Speculate,
    StageEffect,
    ToDownstream,
)
from inference.serving.setup import StageSetup
from inference.serving.stage import StageRequest
from proto_specs.limits import DRAFT_TOKENS_MAX, WINDOW_POSITIONS
from proto_specs.types.manifest import WireDtype
from proto_specs.types.wire import FailureCode, FinishReason, Rows, Token
from tests.property.inference.serving.harness import HIDDEN, SESSION_KEY, WORKER_KEYS, make_manifest, make_order

ROW = 4 * HIDDEN
PROMPT = tuple(range(100, 140))


def make_stage(stage: int, tokens_max: int = 200) -> StageRequest:
    order = make_order(PROMPT, tokens_max, 3)
    setup = StageSetup(order, stage, make_manifest(), SESSION_KEY.public_key, WORKER_KEYS[stage])
    machine = StageRequest(setup if stage else StageSetup(*_get_fields(setup), drafts_max=DRAFT_TOKENS_MAX))
    for start, count in ((0, 32), (32, 8)):
        size = ROW if stage else 4
        payload = bytes(count * size)
        if not stage:
            payload = b"".join(one.to_bytes(4, "little") for one in PROMPT[start : start + count])
        machine.handle(Rows(machine.request, stage, start, count, payload))
        machine.handle(Computed(start, count, bytes(count * ROW), b"", ()))
    return machine


def _get_fields(setup: StageSetup) -> tuple[object, ...]:
    return tuple(getattr(setup, one) for one in ("order", "stage", "manifest", "session_key", "worker_key"))


def send(machine: StageRequest, start: int, drafted: int, unsound: int = 0) -> list[StageEffect]:
    """Rows of a burst come to a middle stage, and are computed."""
    count, draft = 1 + drafted, tuple(range(drafted))
    (work,) = machine.handle(Rows(machine.request, 1, start, count, bytes(count * ROW), draft))
    assert work == Compute(start, count, bytes(count * ROW), draft)
    return machine.handle(Computed(start, count, bytes(count * ROW), b"", (), (), draft, unsound))


def test_a_middle_stage_counts_what_stands_and_no_more() -> None:
    machine = make_stage(1)
    (sent,) = send(machine, 40, 5)
    assert isinstance(sent, ToDownstream)
    assert isinstance(sent.frame, Rows)
    assert sent.frame.draft == tuple(range(5))
    assert machine.progress == (41, 41)
    send(machine, 43, 0)
    assert machine.progress == (44, 44)


@pytest.mark.parametrize("start", [39, 40, 47])
def test_rows_from_outside_a_burst_are_refused(start: int) -> None:
    machine = make_stage(1)
    send(machine, 40, 5)
    (effect,) = machine.handle(Rows(machine.request, 1, start, 1, bytes(ROW)))
    assert isinstance(effect, GiveUp)
    assert effect.code is FailureCode.BAD_INPUT


@pytest.mark.parametrize(
    ("start", "count", "draft"),
    [
        (40, 2, (5, 6)),
        (40, 3, (5,)),
        (38, 2, (5,)),
        (40, 31, tuple(range(30))),
    ],
)
def test_drafts_of_another_shape_are_refused(start: int, count: int, draft: tuple[int, ...]) -> None:
    machine = make_stage(1)
    (effect,) = machine.handle(Rows(machine.request, 1, start, count, bytes(count * ROW), draft))
    assert isinstance(effect, GiveUp)


def test_a_draft_that_leaves_the_window_is_refused() -> None:
    machine = make_stage(1)
    (effect,) = machine.handle(Rows(machine.request, 1, 40, 26, bytes(26 * ROW), tuple(range(25))))
    assert isinstance(effect, GiveUp)
    assert "leave the window" in effect.message


def test_a_row_that_could_not_be_sent_ends_the_request_only_when_it_stands() -> None:
    machine = make_stage(1)
    send(machine, 40, 5, unsound=2)
    send(machine, 44, 0)  # behind the last sound one
    machine = make_stage(1)
    send(machine, 40, 5, unsound=2)
    (effect,) = machine.handle(Rows(machine.request, 1, 45, 1, bytes(ROW)))
    assert isinstance(effect, GiveUp)
    assert "beyond what can be sent" in effect.message


def test_a_first_stage_asks_for_drafts_where_a_burst_is_over() -> None:
    machine = make_stage(0)
    tell = [Token(machine.request, at, 5 + at, FinishReason.NONE) for at in range(4)]
    assert machine.handle(tell[0]) == [Speculate((5,), 23)]
    (work,) = machine.handle(Drafted((6, 7, 9)))
    assert isinstance(work, Compute)
    assert (work.start, work.count, work.draft) == (40, 4, (6, 7, 9))
    machine.handle(Computed(40, 4, bytes(4 * ROW), b"", (), (), (6, 7, 9)))
    assert machine.progress == (41, 41)
    assert machine.handle(tell[1]) == []
    assert machine.handle(tell[2]) == []
    assert machine.progress == (43, 43)
    assert machine.handle(tell[3]) == [Speculate((6, 7, 8), 20)]
    assert machine.progress == (44, 43)


def test_a_first_stage_learns_the_prompt_once_it_is_whole() -> None:
    machine = make_stage(0)
    other = StageRequest(StageSetup(*_get_fields(machine._setup), drafts_max=4))  # noqa: SLF001
    payload = b"".join(one.to_bytes(4, "little") for one in PROMPT)
    assert len(other.handle(Rows(other.request, 0, 0, 32, payload[:128]))) == 1
    effects = other.handle(Rows(other.request, 0, 32, 8, payload[128:]))
    assert effects[1:] == [PromptKnown(PROMPT)]


def test_room_ends_with_the_answer() -> None:
    machine = make_stage(0, tokens_max=4)
    assert machine.handle(Token(machine.request, 0, 5, FinishReason.NONE)) == [Speculate((5,), 2)]


def make_log() -> BoundaryLog:
    log = BoundaryLog(bytes(32), 1, 1, WireDtype.TOKEN)
    log.append(0, 28, bytes(4 * 28))
    log.hold(4, bytes(range(16)))
    return log


def test_a_log_takes_from_what_it_holds() -> None:
    log = make_log()
    assert (log.positions, log.reached, log.get_count(0)) == (28, 32, 28)
    log.confirm(29)
    assert log.settle(31) == 1
    assert (log.positions, log.reached) == (31, 31)
    assert log.get_payload(0)[-12:] == bytes(range(12))
    log = make_log()
    assert log.settle(28) == 4
    log = make_log()
    log.cut(0)
    assert log.reached == 0
    for position in (27, 33):
        with pytest.raises(BoundaryError):
            make_log().settle(position)
    with pytest.raises(BoundaryError):
        BoundaryLog(bytes(32), 1, 1, WireDtype.TOKEN).hold(1, bytes(4))
    assert make_log().reached == WINDOW_POSITIONS
