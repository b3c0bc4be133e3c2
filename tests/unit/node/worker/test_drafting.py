"""Drafts of a request on a worker: look-ups answer at once, a model's come from a thread, and it may fail."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
import trio.testing

from inference.drafting.draft import NOTHING, Draft
from inference.drafting.speculator import Speculator
from inference.errors import EngineError, KvExhaustedError, ModelError
from inference.serving.events import Drafted, PromptKnown, Speculate
from node.worker.drafting import NO_DRAFTS, DraftSource, RequestDrafts
from proto_specs.types.request import Order
from tests.property.inference.serving.harness import make_order

PROMPT = (*range(100, 140), 99, *range(100, 120))


class FakeModel:
    """Drafts the numbers that follow; or fails."""

    def __init__(self, at_open: ModelError | None = None, at_begin: ModelError | None = None) -> None:
        self._at_open = at_open
        self._at_begin = at_begin
        self.closed = 0

    def open(self, *_given: object) -> FakeModel:
        if self._at_open is not None:
            raise self._at_open
        return self

    def extend(self, _tokens: Sequence[int]) -> None:
        """Known to it already."""

    def catch_up(self) -> None:
        if self._at_begin is not None:
            raise self._at_begin

    def propose(self, count_max: int, _estimate: Callable[[int], float], _chance_min: float) -> Draft:
        return Draft((7,) * count_max, (7,) * count_max) if count_max > 0 else NOTHING

    def close(self) -> None:
        self.closed += 1


def make_source(model: FakeModel | None) -> DraftSource:
    return DraftSource(model=model)  # type: ignore[arg-type]


def get_order() -> Order:
    return make_order(PROMPT, 200, 3).order


def ask_all(drafts: RequestDrafts, count: int = 20) -> None:
    drafts.put(PromptKnown(PROMPT))
    for at in range(count):
        drafts.put(Speculate((120 + at,), 8))


def test_a_look_up_answers_at_once() -> None:
    async def play() -> list[Drafted]:
        found: list[Drafted] = []
        async with make_source(None).open(get_order(), found.append).running() as _:
            pass
        drafts = make_source(None).open(get_order(), found.append)
        ask_all(drafts)
        return found

    found = trio.run(play)
    assert len(found) == 20
    assert all(len(one.tokens) <= 8 for one in found)


def test_time_is_that_between_two_questions(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[float | None] = []
    observe = Speculator.observe

    def note(self: Speculator, drawn: Sequence[int], seconds: float | None) -> None:
        told.append(seconds)
        observe(self, drawn, seconds)

    monkeypatch.setattr(Speculator, "observe", note)

    async def play() -> None:
        drafts = make_source(None).open(get_order(), lambda _found: None)
        drafts.put(PromptKnown(PROMPT))
        for seconds in (1.0, 0.25, 0.5):
            drafts.put(Speculate((5,), 8))
            await trio.sleep(seconds)

    trio.run(play, clock=trio.testing.MockClock(autojump_threshold=0))
    assert told == [None, 1.0, 0.25]


async def ask_model(model: FakeModel) -> list[Drafted]:
    found: list[Drafted] = []
    all_came = trio.Event()

    def reply(one: Drafted) -> None:
        found.append(one)
        if len(found) == 10:
            all_came.set()

    drafts = make_source(model).open(get_order(), reply)
    async with drafts.running():
        ask_all(drafts, 10)
        with trio.fail_after(10):
            await all_came.wait()
    return found


async def test_a_model_drafts_in_a_thread_and_frees_its_memory() -> None:
    model = FakeModel()
    found = await ask_model(model)
    assert any(one.tokens[:1] == (7,) for one in found)
    assert model.closed == 1


@pytest.mark.parametrize("model", [FakeModel(KvExhaustedError(9, 5)), FakeModel(None, EngineError("lost"))])
async def test_a_model_that_cannot_is_done_without(model: FakeModel) -> None:
    found = await ask_model(model)
    assert all(7 not in one.tokens for one in found)


def test_none_are_drafted_where_none_are_wanted() -> None:
    assert NO_DRAFTS.drafts_max == 0
