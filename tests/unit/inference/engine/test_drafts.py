"""Drafted rows: whatever is drafted, each request gets the tokens and rows it gets without; so do its neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inference.decoding.chooser import TokenChooser
from inference.decoding.source import ChooserSource
from inference.engine.batcher import StageAnswer, StageBatcher
from inference.engine.engine import StageEngine
from inference.engine.ort import ShardSession
from inference.errors import EngineError
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias, make_grammar
from tests.unit.inference.conftest import TinyModel
from tests.unit.inference.engine.drafted_path import Draft, Speaker, pack, run_path

GREEDY = SamplingParams(0, 0, 1000, 0)
SAMPLED = SamplingParams(900, 40, 950, 7, 0, 1300, 500, 200, (TokenBias(7, 900),), logprobs=2)
GRAMMAR = b"start: /(he|hello|w|12|[a-d]){12,70}/"
VOCAB = 265
A, B = b"a" * 32, b"b" * 32


@dataclass
class Tried:
    """Sessions of the tiny model in three shards, with equal bits, and what each rule's request gets undrafted."""

    model: TinyModel
    sessions: list[ShardSession]
    source: ChooserSource

    def make_path(self, kv_positions: int = 5_000) -> list[StageBatcher]:
        return [StageBatcher(StageEngine(session, kv_positions)) for session in self.sessions]

    def make_speaker(self, key: bytes, rules: str, seed: int, draft: Draft | None = None) -> Speaker:
        generator = np.random.default_rng(seed)
        prompt = generator.integers(3, VOCAB, int(generator.integers(1, 50))).tolist()
        speaker = Speaker(key, prompt, int(generator.integers(20, 90)), self.make_chooser(rules, prompt))
        speaker.draft = draft or speaker.draft
        return speaker

    def make_chooser(self, rules: str, prompt: Sequence[int]) -> TokenChooser:
        params, grammar = {"greedy": GREEDY, "sampled": SAMPLED}.get(rules, SAMPLED), b""
        if rules == "stops":
            params = replace(SAMPLED, stop=(b"hello", b"w", b"e "))
        elif rules == "grammar":
            params, grammar = replace(SAMPLED, grammar=make_grammar(GrammarKind.LARK, GRAMMAR)), GRAMMAR
        return self.source.make(params, prompt, grammar)


@pytest.fixture(scope="module")
def tried(model: TinyModel) -> Tried:
    sessions = [model.load(start, start + 1, decode_rows=2) for start in range(3)]
    return Tried(model, sessions, ChooserSource(model.store, model.model_id, model.manifest))


def mix(truth: Sequence[int], drafts: Sequence[tuple[int, int]]) -> Draft:
    """Drafts of the given lengths in turn, of which so many tokens are right, unless chance has it that more are."""
    turns = itertools.cycle(drafts)

    def draft(answer: Sequence[int]) -> Sequence[int]:
        count, right = next(turns)
        ahead = list(truth[len(answer) : len(answer) + min(count, right)])
        return [*ahead, *((7 * len(answer) + at) % VOCAB for at in range(count - len(ahead)))]

    return draft


def find_truth(tried: Tried, rules: str, seed: int) -> Speaker:
    alone = tried.make_speaker(A, rules, seed)
    run_path(tried.make_path(), [alone])
    return alone


DRAFTS = st.lists(st.tuples(st.integers(0, 31), st.integers(0, 31)), min_size=1, max_size=6)
RULES = st.sampled_from(("greedy", "sampled", "stops", "grammar"))


@given(RULES, st.integers(0, 30), DRAFTS, st.integers(0, 4), st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_an_answer_is_the_same_whatever_is_drafted(
    tried: Tried, rules: str, seed: int, drafts: list[tuple[int, int]], others: int, is_short_of_memory: bool
) -> None:
    """Bit for bit, among others that draft too, and where memory is taken away and computed again."""
    alone = find_truth(tried, rules, seed)
    path = tried.make_path(140 if is_short_of_memory else 5_000)
    speakers = [tried.make_speaker(bytes([at]) * 32, "sampled", at, mix((), [(at, 0)])) for at in range(others)]
    watched = tried.make_speaker(A, rules, seed, mix(alone.answer, drafts))
    run_path(path, [*speakers, watched])
    assert watched.drawn == alone.drawn
    assert b"".join(watched.rows) == b"".join(alone.rows)
    for at, one in enumerate(speakers):
        assert one.drawn == _get_other(tried, at).drawn
        assert b"".join(one.rows) == b"".join(_get_other(tried, at).rows)


_OTHERS: dict[tuple[int, int], Speaker] = {}


def _get_other(tried: Tried, at: int) -> Speaker:
    key = (id(tried), at)
    if key not in _OTHERS:
        _OTHERS[key] = find_truth(tried, "sampled", at)
    return _OTHERS[key]


@pytest.mark.parametrize("rules", ["greedy", "sampled", "stops", "grammar"])
def test_right_drafts_save_calls(tried: Tried, rules: str) -> None:
    alone = find_truth(tried, rules, 3)
    watched = tried.make_speaker(A, rules, 3, mix(alone.answer, [(31, 31)]))
    run_path(tried.make_path(), [watched])
    assert watched.drawn == alone.drawn
    assert len(watched.drafted) <= 1 + -(-len(alone.drawn) // 32)


def test_stop_strings_and_grammars_end_answers_and_memory_is_taken(
    tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first test is about them only if they do something."""
    for rules in ("stops", "grammar"):
        answers = [find_truth(tried, rules, seed).drawn for seed in range(31)]
        assert any(one[-1].is_end for one in answers)
        assert sum(map(len, answers)) > 31 * 8
    evicted: list[bytes] = []
    make_room = StageEngine.make_room

    def watch(self: StageEngine, *given: object) -> list[bytes] | None:
        found = make_room(self, *given)  # type: ignore[arg-type]
        evicted.extend(found or ())
        return found

    monkeypatch.setattr(StageEngine, "make_room", watch)
    speakers = [tried.make_speaker(bytes([at]) * 32, "sampled", at, mix((), [(at, 0)])) for at in range(4)]
    watched = tried.make_speaker(A, "sampled", 3, mix(find_truth(tried, "sampled", 3).answer, [(4, 2)]))
    run_path(tried.make_path(140), [*speakers, watched])
    assert set(evicted) & {A, bytes([3]) * 32}, "some that draft"
    assert watched.drawn == find_truth(tried, "sampled", 3).drawn


def test_single_rows_and_drafts_agree_within_the_exact_class(model: TinyModel) -> None:
    """Without the doubled row a drafted call differs by rounding from single ones, and no more."""
    tried = Tried(
        model,
        [model.load(start, start + 1) for start in range(3)],
        ChooserSource(model.store, model.model_id, model.manifest),
    )
    for seed in range(6):
        alone = find_truth(tried, "greedy", seed)
        watched = tried.make_speaker(A, "greedy", seed, mix(alone.answer, [(5, 9), (8, 3), (0, 0)]))
        run_path(tried.make_path(), [watched])
        assert watched.answer == alone.answer
        found, wanted = (np.frombuffer(b"".join(one.rows), "<f4") for one in (watched, alone))
        assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def test_the_chooser_draws_from_rows_that_stand_and_from_no_others(
    tried: Tried, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = find_truth(tried, "sampled", 5)
    watched = tried.make_speaker(A, "sampled", 5, mix(alone.answer, [(9, 2), (4, 0), (31, 31)]))
    asked: list[int] = []
    choose = watched.chooser.choose

    def note(logits: np.ndarray, position: int) -> object:
        asked.append(position)
        return choose(logits, position)

    monkeypatch.setattr(watched.chooser, "choose", note)
    run_path(tried.make_path(), [watched])
    first = len(watched.prompt) - 1
    assert asked == list(range(first, first + len(alone.drawn)))


def start(batcher: StageBatcher, key: bytes = A, prompt: int = 30) -> None:
    """A request whose prompt is computed."""
    chooser = TokenChooser(GREEDY, ()) if batcher._shard.is_last else None  # noqa: SLF001
    batcher.open(key, 100, prompt - 1, chooser)
    rows = np.random.default_rng(0).standard_normal((prompt, 64)).astype("<f4")
    batcher.submit(key, 0, prompt, pack(range(prompt)) if batcher._shard.is_first else rows.tobytes())  # noqa: SLF001
    step(batcher)


def step(batcher: StageBatcher) -> list[StageAnswer]:
    planned = batcher.plan()
    assert planned is not None
    answers = [answer for _, answer in batcher.run(planned)]
    batcher.finish(planned)
    assert all(isinstance(one, StageAnswer) for one in answers)
    return answers  # type: ignore[return-value]


def test_a_first_shard_passes_the_draft_on_with_its_rows(tried: Tried) -> None:
    batcher = tried.make_path()[0]
    start(batcher, prompt=32)
    batcher.submit(A, 32, 4, pack([5, 6, 7, 8]), (6, 7, 8))
    (answer,) = step(batcher)
    assert (answer.start, answer.count, answer.draft, len(answer.rows)) == (32, 4, (6, 7, 8), 4 * 256)


@pytest.mark.parametrize(
    ("begin", "count", "drafted", "why"),
    [
        (30, 3, 2, "of one window"),
        (33, 2, 1, "does not follow 30"),
        (30, 2, 2, "drafted"),
        (29, 1, 0, "does not follow 30"),
    ],
)
def test_drafts_that_nobody_may_send_are_refused(tried: Tried, begin: int, count: int, drafted: int, why: str) -> None:
    batcher = tried.make_path()[0]
    start(batcher)
    with pytest.raises(EngineError, match=why):
        batcher.submit(A, begin, count, pack([4] * count), (4,) * drafted)


def test_prompts_are_not_drafted(tried: Tried) -> None:
    batcher = tried.make_path()[0]
    batcher.open(A, 100, 29, None)
    with pytest.raises(EngineError, match="draft generated rows"):
        batcher.submit(A, 0, 30, pack([4] * 30), (4,))


def test_a_last_shard_takes_no_other_start_than_it_drew_up_to(tried: Tried) -> None:
    """The attack: rows that take back what was accepted would have tokens drawn twice, and rules count them twice."""
    batcher = tried.make_path()[2]
    start(batcher)
    rows = np.random.default_rng(1).standard_normal((4, 64)).astype("<f4")
    batcher.submit(A, 30, 2, rows[:2].tobytes(), (300,))
    (answer,) = step(batcher)
    assert (answer.count, len(answer.tokens), answer.draft) == (1, 1, ())
    for begin in (32, 30):
        with pytest.raises(EngineError, match="does not follow"):
            batcher.submit(A, begin, 1, rows[:1].tobytes())
    batcher.submit(A, 31, 1, rows[2:3].tobytes())
    step(batcher)


def test_what_follows_before_the_answer_is_refused_and_touches_no_memory(tried: Tried) -> None:
    """The attack: rows that take back a draft while it is computed, in a thread."""
    batcher = tried.make_path()[0]
    start(batcher, prompt=32)
    batcher.submit(A, 32, 4, pack([5, 6, 7, 8]), (6, 7, 8))
    with pytest.raises(EngineError, match="before the answer"):
        batcher.submit(A, 34, 1, pack([9]))
    planned = batcher.plan()
    assert planned is not None
    with pytest.raises(EngineError, match="before the answer"):
        batcher.submit(A, 34, 1, pack([9]))
    batcher.run(planned)
    batcher.finish(planned)
    batcher.submit(A, 34, 1, pack([9]))
    assert step(batcher)[0].start == 34


def test_a_request_that_ends_behind_a_draft_leaves_nothing(tried: Tried) -> None:
    engine = StageEngine(tried.sessions[0], 100)
    batcher = StageBatcher(engine)
    start(batcher, prompt=32)
    batcher.submit(A, 32, 4, pack([5, 6, 7, 8]), (6, 7, 8))
    step(batcher)
    batcher.submit(A, 34, 1, pack([9]))
    batcher.close(A)
    assert batcher.plan() is None
    assert engine.budget.free == 100


def test_a_continuation_goes_on_before_drafted_rows(tried: Tried) -> None:
    """Memory that is adopted may hold rows that never stood: they go with what is rewound."""
    answers: list[bytes] = []
    for draft in ((), (6, 7, 8)):
        batcher = tried.make_path()[0]
        start(batcher, prompt=32)
        batcher.submit(A, 32, 1 + len(draft), pack([5, *draft]), draft)
        step(batcher)
        if draft:
            batcher.submit(A, 34, 1, pack([9]))
        batcher.adopt(A, B, 100, 33, None)
        batcher.rewind(B, 33)
        batcher.submit(B, 33, 3, pack([11, 12, 13]))
        answers.append(step(batcher)[0].rows)
    assert answers[0] == answers[1]


@pytest.mark.parametrize("bad", [np.inf, np.nan, 3e9])
def test_drafted_rows_that_cannot_be_sent_go_as_zeros(
    tried: Tried, monkeypatch: pytest.MonkeyPatch, bad: float
) -> None:
    """They fail a request only if they stand, which the first stage and those behind it find out."""
    batcher = tried.make_path()[0]
    start(batcher, prompt=32)
    forward = StageEngine.forward_batch

    def spoil(self: StageEngine, calls: object) -> object:
        outputs = forward(self, calls)  # type: ignore[arg-type]
        for one in outputs:
            one.hidden[2, 5] = bad  # type: ignore[union-attr]
        return outputs

    ranges = (10**9,) * tried.model.manifest.architecture.layers
    monkeypatch.setattr(StageEngine, "forward_batch", spoil)
    manifest = replace(batcher._shard.manifest, ranges=ranges)  # noqa: SLF001
    monkeypatch.setattr(batcher, "_shard", replace(batcher._shard, manifest=manifest))  # noqa: SLF001
    batcher.submit(A, 32, 4, pack([5, 6, 7, 8]), (6, 7, 8))
    (answer,) = step(batcher)
    assert (answer.count, answer.draft, answer.unsound) == (4, (6, 7, 8), 2)
    rows = np.frombuffer(answer.rows, "<f4").reshape(4, -1)
    assert np.abs(rows[:2]).max(axis=1).all()
    assert not rows[2:].any()
