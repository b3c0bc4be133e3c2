"""A verifier's recomputation on the tiny model: honest work passes, every tampering with rows or tokens does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.decoding.chooser import TokenChooser
from inference.decoding.draw import sample
from inference.engine import verify
from inference.engine.ort import ShardSession
from inference.engine.rows import StageOutput
from inference.engine.verify import SampledTokens, VerificationResult, verify_window
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import EngineError, FingerprintError, StoreError, UnjudgeableError
from inference.fingerprint import compute_projection_distance
from inference.model.graph.shard import ShardRange
from inference.model.profiles import make_profile
from inference.model.tokenizer.vocabulary import Vocabulary
from proto_specs.types.manifest import ServiceClass, WireDtype
from proto_specs.types.sampling import SamplingParams
from tests.actors.cheating import load_doctored
from tests.actors.doctor import Cheat, write_doctored
from tests.unit.inference.conftest import TinyModel

TOKENS = np.random.default_rng(5).integers(0, 200, 48).astype(np.uint32)
SEED = bytes(range(32))
SAMPLING = SamplingParams(1000, 0, 1000, 99)
START = 40
Rows = NDArray[np.float32]


def _run(session: ShardSession, rows: NDArray[np.uint32] | Rows) -> Rows:
    return session.run(session.open_kv(len(rows)), rows).hidden


def _draw(session: ShardSession, inputs: Rows) -> tuple[int, ...]:
    output = session.run(session.open_kv(len(inputs)), inputs, tuple(range(START, len(inputs))))
    assert output.logits is not None
    return tuple(sample(row, SAMPLING, START + place) for place, row in enumerate(output.logits))


@pytest.mark.parametrize(("window", "end"), [(0, 32), (32, 48), (0, 1), (47, 48)])
@pytest.mark.parametrize("kind", ["perturb", "quantise", "skip"])
def test_cheats_fail_and_honest_work_passes(model: TinyModel, tmp_path: Path, kind: str, window: int, end: int) -> None:
    honest = model.load(0, 2)
    cheat = load_doctored(model.directory, tmp_path / "doctored", model.cut(0, 2), Cheat(kind))
    profile = model.manifest.profile

    def judge(session: ShardSession) -> VerificationResult:
        return verify_window(honest, TOKENS[:end], window, _run(session, TOKENS[:end])[window:], profile, SEED)

    assert judge(honest).ok
    assert judge(honest).distance_ppb == 0
    assert not judge(cheat).ok
    assert judge(cheat).distance_ppb > 100 * profile.threshold_ppb


@pytest.mark.parametrize(("positions", "is_judged"), [(7, False), (8, True)])
def test_few_positions_fail_by_far_or_not_at_all(model: TinyModel, positions: int, is_judged: bool) -> None:
    session, profile = model.load(0, 2), model.manifest.profile
    own = _run(session, TOKENS[:positions])
    near, far = (own * np.float32(1 + error) for error in (10 * profile.threshold_ppb / 1e9, 0.1))
    if is_judged:
        assert not verify_window(session, TOKENS[:positions], 0, near, profile, SEED).ok
    else:
        with pytest.raises(UnjudgeableError, match="7 positions"):
            verify_window(session, TOKENS[:positions], 0, near, profile, SEED)
    assert not verify_window(session, TOKENS[:positions], 0, far, profile, SEED).ok


def test_two_verifiers_publish_the_same_projection_and_a_cheat_does_not(model: TinyModel, tmp_path: Path) -> None:
    profile = model.manifest.profile
    first, second = model.load(0, 2), model.load(0, 2)
    cheat = load_doctored(model.directory, tmp_path / "doctored", model.cut(0, 2), Cheat.SKIP)
    claimed = _run(first, TOKENS)[32:]
    one = verify_window(first, TOKENS, 32, claimed, profile, SEED).projection
    assert one == verify_window(second, TOKENS, 32, claimed, profile, SEED).projection
    assert one != verify_window(first, TOKENS, 32, claimed, profile, bytes(32)).projection
    other = verify_window(cheat, TOKENS, 32, claimed, profile, SEED).projection
    assert compute_projection_distance(one, other) > 100 * profile.threshold_ppb


def test_tokens_of_a_last_shard_are_derived_again(model: TinyModel) -> None:
    inputs, last = _run(model.load(0, 2), TOKENS), model.load(2, 3)
    claimed, tokens = _run(last, inputs)[32:], _draw(last, inputs)

    def judge(drawn: tuple[int, ...], eos: frozenset[int] = frozenset(), start: int = START) -> tuple[int, ...]:
        sampled = SampledTokens(drawn, start, TokenChooser(SAMPLING, eos))
        result = verify_window(last, inputs, 32, claimed, model.manifest.profile, SEED, sampled)
        assert result.distance_ppb == 0
        assert result.ok == (not result.token_mismatches)
        return result.token_mismatches

    assert judge(tokens) == ()
    assert judge((*tokens[:3], (tokens[3] + 1) % 200, *tokens[4:])) == (START + 3,)
    assert judge(tokens[:6]) == (START + 6, START + 7)
    assert judge((*tokens, 5)) == (48,)
    assert judge((*tokens[:7], 2**32 - 1)) == (47,)
    assert tokens[-1] not in tokens[:-1]
    assert judge(tokens, frozenset({tokens[-1]})) == ()
    assert judge(tokens, frozenset({tokens[0]})) == tuple(range(START + 1, 48))


def test_the_tokens_drawn_before_count(model: TinyModel) -> None:
    """Rules remember: the same tokens after another history are others, and none follow an end."""
    inputs, last = _run(model.load(0, 2), TOKENS), model.load(2, 3)
    claimed = _run(last, inputs)[32:]
    logits = last.run(last.open_kv(len(inputs)), inputs, tuple(range(START, len(inputs)))).logits
    assert logits is not None
    rules = replace(SAMPLING, temperature_milli=0, presence_penalty_milli=10_000, stop=(b"end",))
    vocabulary = Vocabulary((*(b"-" for _ in range(198)), b"en", b"d"), {})
    drawn = tuple(int(one) for one in np.argsort(-logits[0])[:3])
    worker = TokenChooser(rules, (), (), vocabulary)
    for one in drawn:
        worker.advance(one)
    tokens = tuple(worker.choose(row, START + place).token for place, row in enumerate(logits))

    def judge(claims: tuple[int, ...], before: tuple[int, ...], has_rules: bool = True) -> tuple[int, ...]:
        chooser = TokenChooser(rules, (), (), vocabulary) if has_rules else None
        sampled = SampledTokens(claims, START, chooser, before)
        return verify_window(last, inputs, 32, claimed, model.manifest.profile, SEED, sampled).token_mismatches

    assert judge(tokens, drawn) == ()
    assert judge(tokens, ())[0] == START
    assert judge(tokens, (*drawn, tokens[3]))[0] == START + 3
    everything = tuple(range(START, 48))
    assert judge(tokens, (198, 199)) == everything, "a stop string ended it in the windows before"
    assert judge(tokens, drawn, has_rules=False) == everything
    assert judge((*tokens[:2], 198, 199, *tokens[4:]), drawn)[-4:] == tuple(range(44, 48)), "and in this window"


@pytest.mark.parametrize("dtype", [WireDtype.FP16, WireDtype.BF16])
def test_what_the_wire_rounds_is_no_error_and_the_rest_is(model: TinyModel, tmp_path: Path, dtype: WireDtype) -> None:
    session = ShardSession(ShardRange(replace(model.manifest, wire_dtype=dtype), 0, 2), model.directory)
    cheat = load_doctored(model.directory, tmp_path / "doctored", model.cut(0, 2), Cheat.SKIP)
    sent, cheated = (decode_rows(encode_rows(_run(one, TOKENS)[32:], dtype), dtype, 64) for one in (session, cheat))
    profile = make_profile(ServiceClass.EXACT, dtype)
    assert verify_window(session, TOKENS, 32, sent, profile, SEED).distance_ppb == 0
    assert not verify_window(session, TOKENS, 32, cheated, profile, SEED).ok
    assert not verify_window(model.load(0, 2), TOKENS, 32, sent, model.manifest.profile, SEED).ok
    unrounded = verify_window(model.load(0, 2), TOKENS, 32, _run(session, TOKENS)[32:], profile, SEED)
    assert verify_window(session, TOKENS, 32, sent, profile, SEED).projection == unrounded.projection
    with pytest.raises(FingerprintError, match="decode them first"):
        verify_window(session, TOKENS, 32, _run(session, TOKENS)[32:], profile, SEED)


@pytest.mark.parametrize(("own_error", "is_judged"), [(0.0, True), (1e-4, True), (1e-3, False)])
def test_what_is_within_a_machine_s_own_spread_is_no_fail(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch, own_error: float, is_judged: bool
) -> None:
    """Some texts amplify any rounding: who differs from itself row by row cannot accuse another."""
    session = model.load(0, 2)
    claimed = _run(session, TOKENS)[32:] * np.float32(1 + 4e-3)
    compute, sizes = session.run, []

    def run(kv: Any, rows: Any, *more: Any) -> StageOutput:
        found = compute(kv, rows, *more)
        sizes.append(len(rows))
        return replace(found, hidden=found.hidden * np.float32(1 + own_error)) if len(rows) == 1 else found

    monkeypatch.setattr(session, "run", run)
    monkeypatch.setattr(verify, "SINGLE_ROWS_MAX", len(TOKENS) - 1)
    if is_judged:
        assert not verify_window(session, TOKENS, 32, claimed, model.manifest.profile, SEED).ok
    else:
        with pytest.raises(UnjudgeableError, match="row by row"):
            verify_window(session, TOKENS, 32, claimed, model.manifest.profile, SEED)
    assert sizes == [len(TOKENS), 32, *[1] * (len(TOKENS) - 32)], "of a long request the prefix goes in pieces"


def test_rows_the_wire_cannot_carry_give_no_verdict(model: TinyModel) -> None:
    session = ShardSession(ShardRange(replace(model.manifest, wire_dtype=WireDtype.FP16), 1, 3), model.directory)
    inputs, claimed = np.full((4, 64), 70000, np.float32), np.full((4, 64), 65504, np.float32)
    with pytest.raises(UnjudgeableError, match="the model was calibrated for"):
        verify_window(session, inputs, 0, claimed, model.manifest.profile, SEED)
    loose = ShardRange(replace(model.manifest, wire_dtype=WireDtype.FP16, ranges=()), 1, 3)
    with pytest.raises(UnjudgeableError, match="cannot be compared: a hidden state exceeds fp16"):
        verify_window(ShardSession(loose, model.directory), inputs, 0, claimed, model.manifest.profile, SEED)


@pytest.mark.parametrize("dtype", [WireDtype.FP32, WireDtype.FP16, WireDtype.BF16])
def test_of_a_shard_that_changes_nothing_equal_rows_pass_and_others_get_no_verdict(
    model: TinyModel, tmp_path: Path, dtype: WireDtype
) -> None:
    """Every matrix of the one layer is zero where it writes, so its output is its input."""
    idle = write_doctored(model.directory, tmp_path / "idle", model.cut(1, 2), Cheat.SKIP)
    session = ShardSession(ShardRange(replace(idle, wire_dtype=dtype), 1, 2), tmp_path / "idle")
    inputs = np.random.default_rng(6).integers(-8, 8, (4, 64)).astype(np.float32)
    found = verify_window(session, inputs, 2, inputs[2:], model.manifest.profile, SEED)
    assert found.ok
    assert any(found.projection), "a pass has a fingerprint"
    with pytest.raises(UnjudgeableError, match="cannot be compared"):
        verify_window(session, inputs, 2, inputs[2:] + 1, model.manifest.profile, SEED)
    zeros = np.zeros((4, 64), np.float32)
    with pytest.raises(UnjudgeableError, match="no fingerprint"):
        verify_window(session, zeros, 2, zeros[2:], model.manifest.profile, SEED)


def test_of_a_window_that_changes_nothing_equal_rows_pass(model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    session = ShardSession(ShardRange(replace(model.manifest, wire_dtype=WireDtype.BF16), 1, 2), model.directory)
    inputs = np.random.default_rng(6).integers(-8, 8, (4, 64)).astype(np.float32)
    rows = inputs.copy()
    rows[:2] += 1
    monkeypatch.setattr(session, "run", lambda *_: StageOutput(rows, None, None))
    assert verify_window(session, inputs, 2, inputs[2:], model.manifest.profile, SEED).ok
    with pytest.raises(UnjudgeableError, match="equal the input throughout the window"):
        verify_window(session, inputs, 2, inputs[2:] + 1, model.manifest.profile, SEED)
    assert verify_window(session, inputs, 1, rows[1:], model.manifest.profile, SEED).ok


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_own_rows_that_are_no_numbers_accuse_nobody(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch, poison: float
) -> None:
    session = model.load(1, 2)
    inputs = np.random.default_rng(6).integers(-8, 8, (4, 64)).astype(np.float32)
    rows = inputs + 1
    rows[0, 0] = poison
    monkeypatch.setattr(session, "run", lambda *_: StageOutput(rows, None, None))
    with pytest.raises(UnjudgeableError, match="cannot be compared"):
        verify_window(session, inputs, 2, inputs[2:], model.manifest.profile, SEED)
    assert verify_window(session, inputs, 2, rows[2:], model.manifest.profile, SEED).ok, "what was computed is equal"


def test_logits_that_are_no_numbers_accuse_nobody(model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    session = model.load(2, 3)
    inputs = np.random.default_rng(6).integers(-8, 8, (4, 64)).astype(np.float32)
    logits = np.full((2, 200), np.nan, np.float32)
    monkeypatch.setattr(session, "run", lambda *_: StageOutput(inputs + 1, None, logits))
    sampled = SampledTokens((1, 2), 2, TokenChooser(SAMPLING, ()))
    with pytest.raises(UnjudgeableError, match="no token follows"):
        verify_window(session, inputs, 2, inputs[2:] + 1, model.manifest.profile, SEED, sampled)


def test_another_seed_or_temperature_does_not_explain_the_tokens(model: TinyModel) -> None:
    inputs, last = _run(model.load(0, 2), TOKENS), model.load(2, 3)
    claimed, tokens = _run(last, inputs)[32:], _draw(last, inputs)
    for sampling in (replace(SAMPLING, seed=100), replace(SAMPLING, temperature_milli=0)):
        sampled = SampledTokens(tokens, START, TokenChooser(sampling, ()))
        result = verify_window(last, inputs, 32, claimed, model.manifest.profile, SEED, sampled)
        assert len(result.token_mismatches) >= 4


def test_a_changed_prefix_shows_in_later_windows(model: TinyModel) -> None:
    session = model.load(0, 2)
    other = TOKENS.copy()
    other[3] = (other[3] + 1) % 200
    claimed = _run(session, other)[32:]
    assert not verify_window(session, TOKENS, 32, claimed, model.manifest.profile, SEED).ok


def test_claims_that_are_not_the_window_are_never_matched(model: TinyModel) -> None:
    session, profile = model.load(0, 2), model.manifest.profile
    claimed = _run(session, TOKENS)[32:]
    poisoned = claimed.copy()
    poisoned[2, 2] = np.nan
    for bad in (claimed[:-1], claimed[:, :-1], claimed[:0], poisoned):
        with pytest.raises(FingerprintError):
            verify_window(session, TOKENS, 32, bad, profile, SEED)
    for start in (-1, 48, 99):
        with pytest.raises(EngineError, match="the window starts"):
            verify_window(session, TOKENS, start, claimed, profile, SEED)
    with pytest.raises(EngineError, match="judged on a last shard"):
        verify_window(session, TOKENS, 32, claimed, profile, SEED, SampledTokens((1,), 47, TokenChooser(SAMPLING, ())))


def test_doctoring_is_seeded_touches_its_range_alone_and_overwrites_nothing(model: TinyModel, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_doctored(model.directory, tmp_path / name, model.cut(1, 2), Cheat.PERTURB, seed)

    def read(name: str, file: str) -> bytes:
        return (tmp_path / name / file).read_bytes()

    original = (model.directory / "layer-001.bin").read_bytes()
    assert read("a", "layer-001.bin") == read("b", "layer-001.bin") != read("c", "layer-001.bin")
    assert len(read("a", "layer-001.bin")) == len(original) != 0
    assert read("a", "layer-001.bin") != original
    for file in ("layer-000.bin", "layer-002.bin", "embed.bin", "head.bin"):
        assert read("a", file) == (model.directory / file).read_bytes()
    with pytest.raises(StoreError, match="exists already"):
        write_doctored(model.directory, tmp_path / "a", model.cut(0, 1), Cheat.PERTURB)
