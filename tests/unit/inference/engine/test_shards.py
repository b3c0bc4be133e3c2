"""Graphs and sessions of any layer range against a numpy llama, and the bit-for-bit promises of ort.py."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from inference.engine import ort
from inference.engine.kv_memory import KvCache
from inference.engine.ort import CALL_ROWS_MAX, ShardSession
from inference.engine.rows import Rows
from inference.errors import EngineError, ModelFormatError
from inference.model.graph.build import build_graph
from proto_specs.types.manifest import UnitKind
from tests.actors.cheating import load_doctored
from tests.actors.doctor import Cheat
from tests.unit.inference import tiny
from tests.unit.inference.conftest import TinyModel

TOKENS = np.random.default_rng(1).integers(0, len(tiny.TOKENS), 70).astype(np.uint32)


@pytest.mark.parametrize(("start", "end"), [(0, 1), (0, 3), (1, 2), (1, 3), (2, 3)])
def test_a_range_computes_what_numpy_computes(model: TinyModel, start: int, end: int) -> None:
    streams, logits = tiny.compute_reference(model.weights, TOKENS.tolist())
    session = model.load(start, end)
    rows: Rows = TOKENS if start == 0 else streams[start].astype(np.float32)
    asked = (69, 0, 33) if end == 3 else ()
    output = session.run(session.open_kv(70), rows, asked)
    assert_allclose(output.hidden, streams[end], rtol=0, atol=2e-5)
    if start == 0:
        assert_array_equal(output.embedded, model.weights["token_embd"][TOKENS])
    else:
        assert output.embedded is None
    if asked:
        assert_allclose(output.logits, logits[list(asked)], rtol=0, atol=5e-5)
    else:
        assert output.logits is None


def test_cutting_the_model_changes_no_bit(model: TinyModel) -> None:
    whole = model.load(0, 3)
    expected = whole.run(whole.open_kv(70), TOKENS, (69,))
    rows: Rows = TOKENS
    for start, end in ((0, 1), (1, 2), (2, 3)):
        session = model.load(start, end)
        output = session.run(session.open_kv(70), rows, (69,) if end == 3 else ())
        rows = output.hidden
    assert_array_equal(output.hidden, expected.hidden)
    assert_array_equal(output.logits, expected.logits)


@pytest.mark.parametrize("decode_rows", [1, 2])
@pytest.mark.parametrize("chunks", [[1] * 70, [32, 32, 6], [69, 1], [2, 67, 1]])
def test_decode_and_chunks_equal_one_prefill(model: TinyModel, chunks: list[int], decode_rows: int) -> None:
    """Bit for bit where the profile asks for it, else within 1e-5 of the largest value."""
    session = model.load(0, 3, decode_rows)
    expected = session.run(session.open_kv(70), TOKENS, tuple(range(70)))
    assert expected.logits is not None
    kv, start = session.open_kv(70), 0
    for count in chunks:
        output = session.run(kv, TOKENS[start : start + count], tuple(range(count)))
        assert output.logits is not None
        for found, wanted in ((output.hidden, expected.hidden), (output.logits, expected.logits)):
            wanted = wanted[start : start + count]
            if decode_rows == 2:
                assert_array_equal(found, wanted)
            else:
                assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
        start += count


def test_long_inputs_are_cut_into_calls_and_logits_keep_the_order_asked(model: TinyModel) -> None:
    tokens = np.resize(TOKENS, 2 * CALL_ROWS_MAX + 1)
    asked = (2 * CALL_ROWS_MAX, 3, CALL_ROWS_MAX, 1, CALL_ROWS_MAX + 9)
    session = model.load(0, 3)
    output = session.run(session.open_kv(len(tokens)), tokens, asked)
    kv = session.open_kv(len(tokens))
    singles = [session.run(kv, tokens[i : i + 1], (0,)) for i in range(len(tokens))]
    assert_allclose(output.hidden, np.concatenate([one.hidden for one in singles]), rtol=0, atol=2e-5)
    assert_allclose(output.logits, np.concatenate([singles[i].logits for i in asked]), rtol=0, atol=5e-5)


def test_rolling_back_leaves_no_trace(model: TinyModel) -> None:
    session = model.load(0, 3)
    kv = session.open_kv(70)
    session.run(kv, TOKENS[:40])
    first = session.run(kv, TOKENS[40:70])
    kv.truncate(40)
    session.run(kv, TOKENS[:25])
    kv.truncate(40)
    assert_array_equal(session.run(kv, TOKENS[40:70]).hidden, first.hidden)
    with pytest.raises(EngineError, match="cannot cut"):
        kv.truncate(71)


def test_a_layer_of_zeros_is_a_layer_left_out(model: TinyModel, tmp_path: Path) -> None:
    streams, _ = tiny.compute_reference(model.weights, TOKENS.tolist())
    cheat = load_doctored(model.directory, tmp_path / "doctored", model.cut(0, 3), Cheat.SKIP)
    honest = model.load(0, 1)
    first = honest.run(honest.open_kv(70), TOKENS).hidden
    last = model.load(2, 3)
    expected = last.run(last.open_kv(70), first).hidden
    assert_array_equal(cheat.run(cheat.open_kv(70), TOKENS).hidden, expected)
    assert np.abs(expected - streams[3]).max() > 0.1


def test_graphs_are_small_and_name_only_their_own_units(model: TinyModel) -> None:
    graph = build_graph(model.cut(1, 2))
    assert len(graph) < 20_000
    assert b"layer-001.bin" in graph
    assert b"layer-000.bin" not in graph
    assert b"embed.bin" not in graph
    last = model.cut(2, 3)
    tied_head = [(UnitKind.EMBED, 0)] if last.decoder.tied_embeddings else []
    assert list(last.units) == [*tied_head, (UnitKind.LAYER, 2), (UnitKind.HEAD, 0)]


@pytest.mark.parametrize(("start", "end"), [(0, 0), (2, 1), (-1, 2), (0, 4)])
def test_ranges_outside_the_model_are_refused(model: TinyModel, start: int, end: int) -> None:
    with pytest.raises(ModelFormatError, match="not a range"):
        model.cut(start, end)


def test_bad_rows_are_refused_and_change_nothing(model: TinyModel) -> None:
    first, inner = model.load(0, 1), model.load(1, 2)
    hidden = np.zeros((2, tiny.HIDDEN), np.float32)
    poisoned = hidden.copy()
    poisoned[1, 3] = np.nan
    kv, inner_kv = first.open_kv(8), inner.open_kv(8)
    for rows in (hidden, TOKENS[:0], TOKENS[:2].astype(np.int64), np.array([len(tiny.TOKENS)], np.uint32)):
        with pytest.raises(EngineError):
            first.run(kv, rows)  # type: ignore[arg-type]
    for bad in (TOKENS[:2], hidden[:, :5], hidden[:0], poisoned, hidden.astype(np.float64), hidden[0]):
        with pytest.raises(EngineError):
            inner.run(inner_kv, bad)  # type: ignore[arg-type]
    with pytest.raises(EngineError, match="exceed the 8 reserved"):
        first.run(kv, TOKENS[:9])
    with pytest.raises(EngineError, match="only the last shard"):
        first.run(kv, TOKENS[:2], (0,))
    last = model.load(2, 3)
    with pytest.raises(EngineError, match="logits asked"):
        last.run(last.open_kv(4), hidden, (2,))
    with pytest.raises(EngineError, match=f"token {len(tiny.TOKENS)} is outside the vocabulary"):
        first.run(kv, np.array([len(tiny.TOKENS)], np.uint32))
    assert kv.length == inner_kv.length == 0
    with pytest.raises(EngineError, match="1 to 700 positions"):
        first.open_kv(tiny.CONTEXT + 1)


def test_a_call_that_fails_halfway_changes_nothing(model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    session = model.load(0, 1)
    kv = session.open_kv(600)
    session.run(kv, TOKENS)
    call = session._call  # noqa: SLF001
    calls: list[int] = []

    def fail_second(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 2:
            raise EngineError("the runtime gave up")
        return call(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(session, "_call", fail_second)
    with pytest.raises(EngineError, match="gave up"):
        session.run(kv, np.resize(TOKENS, 300))
    assert kv.length == len(TOKENS)


def test_the_whole_context_can_be_filled(model: TinyModel) -> None:
    session = model.load(0, 1)
    kv = session.open_kv(tiny.CONTEXT)
    session.run(kv, np.resize(TOKENS, tiny.CONTEXT - 1))
    assert np.isfinite(session.run(kv, TOKENS[:1]).hidden).all()
    assert kv.length == tiny.CONTEXT


def test_missing_weights_are_an_engine_error(model: TinyModel) -> None:
    with pytest.raises(EngineError, match=r"cannot load layers \[0, 1\)"):
        ShardSession(model.cut(0, 1), model.directory / "elsewhere")


@pytest.mark.parametrize("kept", [0, 1 << 18])
def test_what_is_bound_for_ranges_of_slots_is_bounded(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch, kept: int
) -> None:
    """A batch whose requests come and go meets every range of slots, and each binding holds its logits."""
    monkeypatch.setattr(ort, "BINDINGS_MAX", 4, raising=False)
    monkeypatch.setattr(ort, "KEPT_LOGITS_MAX", kept, raising=False)
    session = model.load(0, 3)
    memory = session.make_memory(5, 70)
    expected = session.run(session.open_kv(1), TOKENS[:1], (0,))
    for first in range(5):
        for last in range(first, 5):
            ends = [KvCache(memory, slot) for slot in sorted({first, last})]
            for one in session.run_together(ends, [TOKENS[:1]] * len(ends), [True] * len(ends)):
                assert_allclose(one.logits, expected.logits, rtol=0, atol=1e-5)
            assert len(memory.bindings) <= (4 if kept else 0)


@pytest.mark.parametrize("failure", [MemoryError(), RuntimeError("CUDA out of memory")])
def test_memory_that_runs_out_in_a_call_is_the_call_s_error(
    model: TinyModel, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    """Of this process or of a device, while rows are bound: the call after it gives what it would have given."""
    session = model.load(0, 3)
    kv = session.open_kv(70)

    def fail(*_: object) -> None:
        raise failure

    with monkeypatch.context() as patched:
        patched.setattr("inference.engine.ort.onnxruntime.OrtValue.ortvalue_from_numpy", fail)
        with pytest.raises(EngineError, match=r"layers \[0, 3\) failed: (MemoryError|CUDA out of memory)"):
            session.run(kv, TOKENS[:3])
    assert kv.length == 0
    expected = session.run(session.open_kv(70), TOKENS[:3])
    assert_array_equal(session.run(kv, TOKENS[:3]).hidden, expected.hidden)
