"""Rows of another size than the leaf says, or that are no numbers, match nothing: whoever signed them fails."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from inference.engine.verify import SampledTokens
from inference.errors import EngineError, GrammarError, InputsRefusable, StoreError, UnjudgeableError
from inference.serving.opening import AuthenticOpening
from node.verifier import judge as module
from node.verifier.judge import INCONCLUSIVE, NOT_ROWS, UNAVAILABLE, Judge
from proto_specs.types.calls import Outcome
from tests.property.inference.serving.harness import HIDDEN, make_manifest, make_order

ROW = HIDDEN * 4
PROMPT = tuple(range(40))


def make_opening(**fields: object) -> AuthenticOpening:
    opening = AuthenticOpening(make_order(PROMPT, 9, 3).order, bytes(40 * ROW), 40, 32, bytes(8 * ROW), (), 32)
    return replace(opening, **fields)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch) -> Judge:
    shard = SimpleNamespace(is_first=False, is_last=False)
    monkeypatch.setattr(module, "load_session", lambda *_: SimpleNamespace(shard=shard))
    found = SimpleNamespace(ok=True, distance_ppb=0, token_mismatches=(), projection=b"p")
    monkeypatch.setattr(module, "verify_window", lambda *_: found)
    return Judge(None)  # type: ignore[arg-type]


def judge_one(judge: Judge, opening: AuthenticOpening):
    return judge.judge(opening, bytes(32), make_manifest(), (2, 4), bytes(32))


def test_whole_rows_are_compared(judge: Judge) -> None:
    assert judge_one(judge, make_opening()).outcome is Outcome.PASS


NAN = np.full(HIDDEN, np.nan, dtype="<f4").tobytes()


@pytest.mark.parametrize(
    "fields",
    [
        {"output": bytes(7 * ROW)},
        {"output": bytes(9 * ROW)},
        {"output": b""},
        {"output": bytes(8 * ROW - 2)},
        {"output": bytes(7 * ROW) + NAN},
    ],
)
def test_output_of_another_shape_or_no_numbers_fails(judge: Judge, fields: dict[str, object]) -> None:
    assert judge_one(judge, make_opening(**fields)) == NOT_ROWS
    assert NOT_ROWS.outcome is Outcome.FAIL
    assert judge_one(judge, make_opening(inputs=b"", **fields)) == NOT_ROWS


@pytest.mark.parametrize(
    "inputs",
    [
        bytes(39 * ROW),
        bytes(41 * ROW),
        bytes(20 * ROW),
        b"",
        bytes(40 * ROW - 1),
        bytes(39 * ROW) + NAN,
    ],
)
def test_input_of_another_shape_or_no_numbers_is_not_an_opening(judge: Judge, inputs: bytes) -> None:
    """The sender's fault, and whoever signed for it had to refuse: else a friend's garbage is a free way out."""
    assert judge_one(judge, make_opening(inputs=inputs)) == UNAVAILABLE


def test_input_beyond_the_calibrated_range_is_not_an_opening(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise InputsRefusable("hidden states reach 7e4")

    monkeypatch.setattr(module, "verify_window", fail)
    assert judge_one(judge, make_opening()) == UNAVAILABLE


def test_what_nobody_can_judge_is_inconclusive(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise UnjudgeableError("its delta is zero")

    monkeypatch.setattr(module, "verify_window", fail)
    assert judge_one(judge, make_opening()) == INCONCLUSIVE


def test_what_this_verifier_cannot_compute_accuses_nobody(judge: Judge, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise EngineError("no memory")

    monkeypatch.setattr(module, "verify_window", fail)
    with pytest.raises(EngineError):
        judge_one(judge, make_opening())


def test_one_shard_is_held_at_a_time(monkeypatch: pytest.MonkeyPatch, judge: Judge) -> None:
    alive: set[int] = set()
    most: list[int] = []

    class Session:
        def __init__(self, start: int) -> None:
            self.start, self.shard = start, SimpleNamespace(is_first=False, is_last=False)
            most.append(len(alive))
            alive.add(start)

        def __del__(self) -> None:
            alive.discard(self.start)

    monkeypatch.setattr(module, "load_session", lambda _store, _model, start, *_: Session(start))
    for start in (2, 2, 4, 2):
        judge.judge(make_opening(), bytes(32), make_manifest(), (start, start + 2), bytes(32))
        assert alive == {start}
    assert most == [0, 0, 0], "three loads, each with nothing else in memory"


def test_tokens_of_rules_that_nobody_can_follow_are_the_worker_s_fault(
    monkeypatch: pytest.MonkeyPatch, judge: Judge
) -> None:
    """No honest worker accepts such an order, so whoever signed tokens for it fails; silence would let it be paid."""
    given: list[SampledTokens] = []
    shard = SimpleNamespace(is_first=False, is_last=True)
    monkeypatch.setattr(module, "load_session", lambda *_: SimpleNamespace(shard=shard))
    found = SimpleNamespace(ok=False, distance_ppb=0, token_mismatches=(39,), projection=b"p")
    monkeypatch.setattr(module, "verify_window", lambda *args: given.append(args[-1]) or found)

    class Source:
        def __init__(self, *_: object) -> None:
            pass

        def make(self, *_: object) -> None:
            raise error

    monkeypatch.setattr(module, "ChooserSource", Source)
    error: Exception = GrammarError("not a grammar")
    judgement = judge_one(judge, make_opening(tokens=(5,), sampled_from=39, drawn=(1, 2)))
    assert (judgement.outcome, judgement.token_mismatches) == (Outcome.FAIL, 1)
    assert given == [SampledTokens((5,), 39, None, (1, 2))]
    error = StoreError("no tokenizer here")
    with pytest.raises(StoreError):
        judge_one(judge, make_opening(tokens=(5,), sampled_from=39))
