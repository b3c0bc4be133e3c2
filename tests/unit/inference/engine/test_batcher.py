"""Random schedules: each request gets the rows and tokens it gets alone, nobody's failure touches another."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from inference.decoding.chooser import TokenChooser
from inference.decoding.source import ChooserSource
from inference.engine.batcher import StageAnswer, StageBatcher
from inference.engine.engine import StageEngine
from inference.engine.ort import ShardSession
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import EngineError, GrammarError, KvExhaustedError, ModelError, WireDtypeError
from inference.serving.events import DrawnToken
from proto_specs.types.manifest import WireDtype
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias, TokenLogprob, make_grammar
from tests.unit.inference.conftest import TinyModel

GREEDY = SamplingParams(0, 0, 1000, 0)
WIDTH = 64


def make_chooser(session: ShardSession, params: SamplingParams = GREEDY) -> TokenChooser | None:
    """What a request of a last shard brings."""
    return TokenChooser(params, ()) if session.shard.is_last else None


class Player:
    """One request of a schedule: its input rows, and what came of them."""

    def __init__(self, key: bytes, rows: np.ndarray, prompt: int) -> None:
        self.key, self.rows, self.prompt = key, rows, prompt
        self.sent = 0
        self.answers: list[StageAnswer] = []
        self.failed: ModelError | None = None

    @property
    def answered(self) -> int:
        return sum(one.count for one in self.answers)

    @property
    def is_done(self) -> bool:
        return self.failed is not None or self.answered == len(self.rows)

    def take(self, chance: random.Random) -> tuple[int, np.ndarray]:
        """What comes next: pieces of the prompt as they please, then single rows, each after the answer to the last."""
        start = self.sent
        if start < self.prompt:
            count = min(chance.choice([1, 5, 32, 40, 64]), self.prompt - start)
        else:
            count = 1 if self.answered == start and start < len(self.rows) else 0
        self.sent += count
        return start, self.rows[start : start + count]


def encode_input(rows: np.ndarray, wire: WireDtype) -> bytes:
    return rows.astype("<u4").tobytes() if rows.dtype == np.uint32 else encode_rows(rows, wire)


def play(batcher: StageBatcher, players: list[Player], chance: random.Random, wire: WireDtype) -> int:
    """Runs a schedule to its end; returns how many steps it took."""
    steps = 0
    while not all(one.is_done for one in players):
        for one in chance.sample(players, len(players)):
            if chance.random() < 0.6 and not one.is_done:
                start, rows = one.take(chance)
                if len(rows):
                    batcher.submit(one.key, start, len(rows), encode_input(rows, wire))
        planned = batcher.plan()
        if planned is None:
            continue
        steps += 1
        by_key = {one.key: one for one in players}
        for key, answer in batcher.run(planned):
            if isinstance(answer, ModelError):
                by_key[key].failed = answer
                batcher.forget(key)
            else:
                by_key[key].answers.append(answer)
        batcher.finish(planned)
        for one in players:
            if one.is_done:
                batcher.close(one.key)
    return steps


def make_players(model: TinyModel, chance: random.Random, shard: tuple[int, int]) -> list[Player]:
    generator = np.random.default_rng(chance.randrange(1 << 30))
    players = []
    for number in range(chance.randint(2, 9)):
        length = chance.randint(2, 150)
        tokens = generator.integers(0, 200, length).astype(np.uint32)
        rows = tokens
        if shard[0]:
            before = model.load(0, shard[0])
            hidden = before.run(before.open_kv(length), tokens).hidden
            rows = decode_rows(encode_rows(hidden, WireDtype.FP32), WireDtype.FP32, WIDTH)
        players.append(Player(bytes([number]) * 32, rows, chance.randint(1, length)))
    return players


def assert_as_alone(session: ShardSession, one: Player) -> None:
    """The rows and tokens of a request that had the shard to itself, within the noise of single rows."""
    asked = tuple(range(one.prompt - 1, len(one.rows))) if session.shard.is_last else ()
    alone = session.run(session.open_kv(len(one.rows)), one.rows, asked)
    found = decode_rows(b"".join(answer.rows for answer in one.answers), WireDtype.FP32, WIDTH)
    assert np.abs(found - alone.hidden).max() <= 1e-5 * np.abs(alone.hidden).max()
    tokens = [drawn.token for answer in one.answers for drawn in answer.tokens]
    if alone.logits is not None:
        best = alone.logits.max(axis=1)
        chosen = alone.logits[np.arange(len(tokens)), tokens]
        assert len(tokens) == len(asked)
        assert (chosen >= best - 1e-4).all()
    positions = [answer.start for answer in one.answers]
    assert positions == sorted(positions), "answers come in order, each once"
    for answer in one.answers:
        assert answer.start // 32 == (answer.start + answer.count - 1) // 32, "an answer is of one window"


@pytest.mark.parametrize("shard", [(0, 2), (1, 3)])
@pytest.mark.parametrize("kv_positions", [10_000, 200])
def test_schedules_give_each_request_what_it_has_alone(
    model: TinyModel, shard: tuple[int, int], kv_positions: int
) -> None:
    """With 200 positions requests lose their memory and are computed again; nothing of that is seen from outside."""
    session = model.load(*shard)
    for seed in range(40):
        chance = random.Random(seed)
        engine = StageEngine(session, kv_positions)
        batcher = StageBatcher(engine)
        players = []
        for one in make_players(model, chance, shard):
            try:
                chunk = chance.choice([32, 64, 256])
                batcher.open(one.key, len(one.rows), one.prompt - 1, make_chooser(engine.session), chunk)
                players.append(one)
            except KvExhaustedError:
                assert kv_positions == 200
        play(batcher, players, chance, WireDtype.FP32)
        for one in players:
            assert one.failed is None
            assert_as_alone(session, one)
        assert engine.budget.free == kv_positions, seed


def test_memory_was_taken_and_given_back_in_those_schedules(model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above is about eviction only if there is some."""
    evicted: list[bytes] = []
    make_room = StageEngine.make_room

    def watch(self: StageEngine, *given: object) -> list[bytes] | None:
        found = make_room(self, *given)  # type: ignore[arg-type]
        evicted.extend(found or ())
        return found

    monkeypatch.setattr(StageEngine, "make_room", watch)
    test_schedules_give_each_request_what_it_has_alone(model, (1, 3), 200)
    assert len(evicted) > 20


def test_one_request_s_fault_is_its_own(model: TinyModel) -> None:
    session = model.load(1, 3)
    for seed in range(20):
        chance = random.Random(seed)
        engine = StageEngine(session, 5_000)
        batcher = StageBatcher(engine)
        players = make_players(model, chance, (1, 3))
        for one in players:
            batcher.open(one.key, len(one.rows), one.prompt - 1, make_chooser(engine.session))
        broken = chance.choice(players)
        at = chance.randrange(len(broken.rows))
        broken.rows = broken.rows.copy()
        broken.rows[at, 3] = 1e9 if seed % 2 else np.nan
        spoilt = pytest.MonkeyPatch()
        spoilt.setattr("tests.unit.inference.engine.test_batcher.encode_input", encode_anything)
        with spoilt.context():
            play(batcher, players, chance, WireDtype.FP32)
        spoilt.undo()
        assert isinstance(broken.failed, WireDtypeError | EngineError)
        assert broken.answered <= at
        for one in players:
            if one is not broken:
                assert_as_alone(session, one)
        assert engine.budget.free == 5_000


def encode_anything(rows: np.ndarray, _wire: WireDtype) -> bytes:
    """The bytes of a sender that checks nothing."""
    return rows.astype("<f4").tobytes()


def test_the_oldest_request_gets_on_when_memory_is_short(model: TinyModel) -> None:
    """The attack: many late requests that together want all the memory cannot stop one that came first."""
    session = model.load(1, 3)
    engine = StageEngine(session, 128)
    batcher = StageBatcher(engine)
    chance = random.Random(1)
    rows = np.random.default_rng(0).standard_normal((128, WIDTH)).astype(np.float32)
    players = [Player(bytes([number]) * 32, rows[: 120 + number], 60) for number in range(4)]
    for one in players:
        batcher.open(one.key, 128, one.prompt - 1, make_chooser(engine.session))
    finished: list[bytes] = []
    close = batcher.close

    def note(key: bytes) -> None:
        if key not in finished:
            finished.append(key)
        close(key)

    batcher.close = note  # type: ignore[method-assign]
    play(batcher, players, chance, WireDtype.FP32)
    assert finished[0] == players[0].key
    assert len(finished) == 4


def test_a_request_that_failed_is_planned_no_more(model: TinyModel) -> None:
    """Its owner may hear of it late: until then it must not be computed again from rows that were never kept."""
    session = model.load(1, 3)
    engine = StageEngine(session, 64)
    batcher = StageBatcher(engine)
    old, young = b"o" * 32, b"y" * 32
    rows = np.random.default_rng(0).standard_normal((64, WIDTH)).astype(np.float32)
    batcher.open(old, 64, 63, make_chooser(engine.session))
    batcher.open(young, 64, 63, make_chooser(engine.session))
    broken = rows[:32].copy()
    broken[0, 0] = np.nan
    batcher.submit(young, 0, 32, encode_anything(broken, WireDtype.FP32))
    planned = batcher.plan()
    assert planned is not None
    ((_, answer),) = batcher.run(planned)
    assert isinstance(answer, ModelError)
    batcher.finish(planned)
    batcher.submit(young, 32, 1, encode_anything(rows[:1], WireDtype.FP32))
    batcher.submit(old, 0, 64, encode_anything(rows, WireDtype.FP32))
    answered = 0
    while (planned := batcher.plan()) is not None:
        for key, answer in batcher.run(planned):
            assert key == old
            assert isinstance(answer, StageAnswer)
            answered += answer.count
        batcher.finish(planned)
    assert answered == 64


def test_memory_that_the_system_does_not_give_is_the_request_s_answer(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends nobody else, takes nobody's memory, and does not stay reserved."""
    monkeypatch.setattr("inference.engine.kv_slots.SLOTS", 1)  # each sequence needs a memory of its own
    engine = StageEngine(model.load(1, 3), 64)
    batcher = StageBatcher(engine)
    small, large = b"s" * 32, b"l" * 32
    rows = encode_anything(np.random.default_rng(0).standard_normal((32, WIDTH)), WireDtype.FP32)
    batcher.open(large, 64, 63, make_chooser(engine.session))
    batcher.open(small, 64, 63, make_chooser(engine.session))
    batcher.submit(small, 0, 32, rows)
    planned = batcher.plan()
    assert planned is not None
    batcher.run(planned)
    batcher.finish(planned)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    monkeypatch.setattr("inference.engine.kv_memory.mmap.mmap", refuse)
    for start in (0, 32):
        batcher.submit(large, start, 32, rows)
    for _ in range(2):
        planned = batcher.plan()
        if planned is None:
            break
        ((key, answer),) = batcher.run(planned)
        assert key == large
        assert isinstance(answer, EngineError)
        assert "address space" in str(answer)
        batcher.finish(planned)
    batcher.close(large)
    assert engine.budget.free == 32
    batcher.submit(small, 32, 1, rows[: 4 * WIDTH])
    planned = batcher.plan()
    assert planned is not None
    ((_, answer),) = batcher.run(planned)
    assert isinstance(answer, StageAnswer)


RULES = SamplingParams(
    800, 0, 1000, 5, 0, 1300, 500, 200, (TokenBias(7, 900),), stop=(b"hello",), logprobs=2, prompt_logprobs=True
)


def play_alone(model: TinyModel, kv_positions: int, others: int) -> tuple[Player, list[TokenLogprob], int]:
    """One request by RULES among greedy ones: what it was told, its prompt's log-probabilities, how often it drew."""
    session = model.load(1, 3)
    engine = StageEngine(session, kv_positions)
    batcher = StageBatcher(engine)
    source = ChooserSource(model.store, model.model_id, model.manifest)
    rows = np.random.default_rng(3).standard_normal((others + 1, 90, WIDTH)).astype(np.float32)
    players = [Player(bytes([number]) * 32, rows[number], 40) for number in reversed(range(others + 1))]
    chooser = source.make(RULES, tuple(range(40)))
    draws = 0
    choose = chooser.choose

    def count(logits: np.ndarray, position: int) -> DrawnToken:
        nonlocal draws
        draws += 1
        return choose(logits, position)

    chooser.choose = count  # type: ignore[method-assign]
    for one in players[:-1]:
        batcher.open(one.key, 90, 39, make_chooser(session))
    watched = players[-1]  # the youngest: it loses its memory first
    batcher.open(watched.key, 90, 39, chooser)
    play(batcher, players, random.Random(2), WireDtype.FP32)
    return watched, [row[0] for answer in watched.answers for row in answer.prompt_logprobs], draws


def test_a_request_that_lost_its_memory_draws_each_token_once(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Penalties, stop strings and grammars remember: a token drawn again for a replay would be counted twice."""
    evicted: list[bytes] = []
    make_room = StageEngine.make_room

    def watch(self: StageEngine, *given: object) -> list[bytes] | None:
        found = make_room(self, *given)  # type: ignore[arg-type]
        evicted.extend(found or ())
        return found

    monkeypatch.setattr(StageEngine, "make_room", watch)
    alone, alone_scores, _ = play_alone(model, 10_000, 0)
    assert not evicted
    crowded, crowded_scores, draws = play_alone(model, 192, 3)
    assert crowded.key in evicted
    assert draws == 90 - 39
    alone_drawn, crowded_drawn = ([one for answer in who.answers for one in answer.tokens] for who in (alone, crowded))
    assert [one.token for one in crowded_drawn] == [one.token for one in alone_drawn]
    assert [one.is_end for one in crowded_drawn] == [one.is_end for one in alone_drawn]
    assert [one.token for one in crowded_scores] == [one.token for one in alone_scores] == list(range(1, 40))


def test_prompt_logprobs_are_those_of_the_rows_before_the_first_draw(model: TinyModel) -> None:
    watched, scores, _ = play_alone(model, 10_000, 0)
    session = model.load(1, 3)
    logits = session.run(session.open_kv(40), watched.rows[:40], tuple(range(39))).logits
    assert logits is not None
    values = logits.astype(np.float64)
    exact = [row[at + 1] - np.log(np.exp(row).sum()) for at, row in enumerate(values)]
    assert [one.logprob_micro / 1e6 for one in scores] == pytest.approx(exact, abs=1e-4)
    assert [len(answer.prompt_logprobs) for answer in watched.answers if answer.start >= 40] == [0] * 50
    for answer in watched.answers:
        assert len(answer.prompt_logprobs) + len(answer.tokens) == answer.count


def test_a_grammar_that_cannot_go_on_fails_its_request_alone(model: TinyModel) -> None:
    session = model.load(1, 3)
    batcher = StageBatcher(StageEngine(session, 200))
    text = b'start: "hello"'
    source = ChooserSource(model.store, model.model_id, model.manifest)
    chooser = source.make(replace(GREEDY, grammar=make_grammar(GrammarKind.LARK, text)), (), text)
    chooser.advance(200)
    rows = encode_rows(np.random.default_rng(0).standard_normal((1, WIDTH)).astype(np.float32), WireDtype.FP32)
    for key, one in ((b"g" * 32, chooser), (b"h" * 32, make_chooser(session))):
        batcher.open(key, 10, 0, one)
        batcher.submit(key, 0, 1, rows)
    planned = batcher.plan()
    assert planned is not None
    answers = dict(batcher.run(planned))
    assert isinstance(answers[b"g" * 32], GrammarError)
    assert isinstance(answers[b"h" * 32], StageAnswer)
