"""A request goes on under another id: from the rows it had, with the memory it had, as if nothing had happened."""

from __future__ import annotations

import numpy as np
import pytest

from inference.decoding.chooser import TokenChooser
from inference.engine.batcher import StageAnswer, StageBatcher
from inference.engine.engine import PROMISED_SHARE_MAX, StageEngine
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import EngineError, KvExhaustedError
from proto_specs.types.manifest import WireDtype
from proto_specs.types.sampling import SamplingParams
from tests.unit.inference.conftest import TinyModel

OLD, NEW, OTHER = b"o" * 32, b"n" * 32, b"x" * 32
LENGTH, PROMPT, LOST_AT = 100, 60, 77
WIDTH = 64


def run(batcher: StageBatcher) -> list[StageAnswer]:
    """All that can be computed now."""
    found: list[StageAnswer] = []
    while (planned := batcher.plan()) is not None:
        for _, answer in batcher.run(planned):
            assert isinstance(answer, StageAnswer), answer
            found.append(answer)
        batcher.finish(planned)
    return found


def feed(batcher: StageBatcher, key: bytes, rows: np.ndarray, start: int) -> list[StageAnswer]:
    """Rows from `start` on: what is left of the prompt at once, then one by one."""
    found: list[StageAnswer] = []
    at = start
    while at < len(rows):
        count = max(PROMPT - at, 1)
        batcher.submit(key, at, count, encode(rows[at : at + count]))
        found += run(batcher)
        at += count
    return found


def encode(rows: np.ndarray) -> bytes:
    return rows.astype("<u4").tobytes() if rows.dtype == np.uint32 else encode_rows(rows, WireDtype.FP32)


def join(answers: list[StageAnswer]) -> np.ndarray:
    return decode_rows(b"".join(one.rows for one in answers), WireDtype.FP32, WIDTH)


def make_rows(shard: tuple[int, int]) -> np.ndarray:
    generator = np.random.default_rng(3)
    if shard[0] == 0:
        return generator.integers(0, 200, LENGTH).astype(np.uint32)
    return generator.standard_normal((LENGTH, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("shard", [(0, 2), (1, 2)])
@pytest.mark.parametrize("is_evicted", [False, True])
@pytest.mark.parametrize("back_to", [LOST_AT, 64, 33, 1, 0])
def test_an_adopted_request_gives_the_rows_of_an_undisturbed_one(
    model: TinyModel, shard: tuple[int, int], is_evicted: bool, back_to: int
) -> None:
    session, rows = model.load(*shard), make_rows(shard)
    alone = StageBatcher(StageEngine(session, 1_000))
    alone.open(OLD, LENGTH, PROMPT - 1, None)
    wanted = join(feed(alone, OLD, rows, 0))

    engine = StageEngine(session, 128)
    batcher = StageBatcher(engine)
    if is_evicted:
        batcher.open(OTHER, 96, 95, None)  # it came first, so its rows take the memory of the other
    batcher.open(OLD, LENGTH, PROMPT - 1, None)
    before = feed(batcher, OLD, rows[:LOST_AT], 0)
    if is_evicted:
        batcher.submit(OTHER, 0, 64, encode(rows[:64]))
        run(batcher)
        assert engine.get_length(OLD) == 0
        batcher.close(OTHER)
    batcher.adopt(OLD, NEW, LENGTH, back_to - 1, None)
    batcher.rewind(NEW, back_to)
    after = feed(batcher, NEW, rows, back_to)
    assert sum(one.count for one in after) == LENGTH - back_to, "what was computed is not answered again"
    found = np.concatenate([join(before)[:back_to], join(after)])
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    batcher.close(NEW)
    assert engine.budget.free == 128


def test_an_answer_that_goes_on_draws_the_tokens_of_an_undisturbed_one(model: TinyModel) -> None:
    """A last stage computes again, and counts what was drawn before: penalties and position are the same."""
    session = model.load(0, 3)
    params = SamplingParams(900, 40, 950, 11, repetition_penalty_milli=1_300, frequency_penalty_milli=200)
    prompt = tuple(range(3, 40))

    def draw(tokens: tuple[int, ...], count: int, drawn: tuple[int, ...]) -> tuple[int, ...]:
        chooser = TokenChooser(params, (), prompt)
        assert not chooser.resume(drawn)
        batcher = StageBatcher(StageEngine(session, 1_000))
        batcher.open(NEW, len(tokens) + count, len(tokens) - 1, chooser)
        found: list[int] = []
        at, come = 0, tokens
        for _ in range(count):
            batcher.submit(NEW, at, len(come), encode(np.array(come, np.uint32)))
            (token,) = [one.token for answer in run(batcher) for one in answer.tokens]
            found.append(token)
            at, come = at + len(come), (token,)
        return tuple(found)

    undisturbed = draw(prompt, 30, ())
    for lost_after in (1, 13, 29):
        so_far = undisturbed[:lost_after]
        assert draw((*prompt, *so_far), 30 - lost_after, so_far) == undisturbed[lost_after:]


def test_the_old_id_is_gone_and_what_it_left_unanswered_too(model: TinyModel) -> None:
    engine = StageEngine(model.load(1, 2), 500)
    batcher = StageBatcher(engine)
    rows = make_rows((1, 2))
    batcher.open(OLD, LENGTH, PROMPT - 1, None)
    batcher.submit(OLD, 0, 60, encode(rows[:60]))
    batcher.adopt(OLD, NEW, LENGTH, PROMPT - 1, None)
    assert batcher.plan() is None
    with pytest.raises(EngineError):
        engine.get_length(OLD)
    batcher.close(OLD)
    batcher.rewind(NEW, 0)
    assert sum(one.count for one in feed(batcher, NEW, rows, 0)) == LENGTH
    with pytest.raises(EngineError):
        batcher.adopt(OLD, OTHER, LENGTH, 0, None)


def test_no_more_is_promised_by_going_on_than_by_opening(model: TinyModel) -> None:
    """The attack: an order for little that goes on as one for much would pass by the check of admission."""
    engine = StageEngine(model.load(1, 2), 128)
    for number in range(PROMISED_SHARE_MAX):
        engine.open(bytes([number]) * 32, 100)
    engine.rename(bytes(32), NEW, 128)
    for positions in (129, 700):
        with pytest.raises(KvExhaustedError):
            engine.rename(NEW, OLD, positions)
    with pytest.raises(KvExhaustedError):
        engine.open(OTHER, PROMISED_SHARE_MAX * 128 - 428 + 1)
    engine.rename(NEW, OLD, 1)
    with pytest.raises(EngineError, match="open already"):
        engine.rename(OLD, b"\x01" * 32, 1)
    with pytest.raises(EngineError, match="701"):
        engine.rename(OLD, NEW, 701)
    engine.open(OTHER, 100)
