"""A lying predecessor sends rows so large that they swallow what the next stage adds to them, to have it convicted."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from inference.engine import verify as module
from inference.engine.ort import ShardSession
from inference.engine.verify import VerificationResult, verify_window
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import RowsOutOfRange, UnjudgeableError
from inference.model.graph.shard import ShardRange
from inference.model.profiles import make_profile
from proto_specs.types.manifest import ServiceClass, WireDtype
from tests.actors.cheating import load_doctored
from tests.actors.doctor import Cheat
from tests.unit.inference.conftest import TinyModel, model

__all__ = ["model"]

SEED = bytes(range(32))
DTYPES = (WireDtype.FP32, WireDtype.BF16)


def load(model: TinyModel, dtype: WireDtype, ranges: tuple[int, ...] = ()) -> ShardSession:
    """The last two layers; without ranges nothing but the comparison protects anybody."""
    return ShardSession(ShardRange(replace(model.manifest, wire_dtype=dtype, ranges=ranges), 1, 3), model.directory)


def make_rows(size: float, dtype: WireDtype) -> Any:
    rows = (np.random.default_rng(3).standard_normal((32, 64)) * size).astype(np.float32)
    return decode_rows(encode_rows(rows, dtype), dtype, 64)


def run(session: ShardSession, rows: Any) -> Any:
    return session.run(session.open_kv(len(rows)), rows, (), True).hidden


def run_otherwise(session: ShardSession, rows: Any, seed: int = 4) -> Any:
    """An honest machine of another arithmetic: every sum of a layer is rounded otherwise, by up to half a unit."""
    own = run(session, rows)
    chance = np.random.default_rng(seed)
    for _ in range(2 * len(session.shard.layers)):
        own = own + (chance.uniform(-1, 1, own.shape) * np.abs(own) * 2.0**-24).astype(np.float32)
    return own


def judge(session: ShardSession, rows: Any, claimed: Any) -> VerificationResult:
    dtype = session.wire_dtype
    sent = decode_rows(encode_rows(claimed, dtype), dtype, 64)
    return verify_window(session, rows, 0, sent, make_profile(ServiceClass.EXACT, dtype), SEED)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e3, 1e5, 1e10, 1e30])
def test_equal_bytes_pass(model: TinyModel, size: float, dtype: WireDtype) -> None:
    session, rows = load(model, dtype), make_rows(size, dtype)
    found = judge(session, rows, run(session, rows))
    assert (found.ok, found.distance_ppb) == (True, 0)
    assert any(found.projection)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1.0, 1e3, 1e4, 1e5, 1e30])
def test_another_machine_is_never_accused(model: TinyModel, size: float, dtype: WireDtype) -> None:
    session, rows = load(model, dtype), make_rows(size, dtype)
    for seed in range(20):
        try:
            assert judge(session, rows, run_otherwise(session, rows, seed)).ok
        except UnjudgeableError:
            assert size > 1


def test_without_the_allowance_it_would_be(model: TinyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "compute_rounding", lambda *_: 0)
    session, rows = load(model, WireDtype.FP32), make_rows(1e4, WireDtype.FP32)
    assert not judge(session, rows, run_otherwise(session, rows)).ok


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_cheat_gains_nothing_by_it_on_rows_of_the_usual_size(
    model: TinyModel, tmp_path: Any, dtype: WireDtype
) -> None:
    session, rows = load(model, dtype), make_rows(1.0, dtype)
    cheat = load_doctored(model.directory, tmp_path / "doctored", model.cut(1, 3), Cheat.QUANTISE)
    assert not judge(session, rows, run(cheat, rows)).ok


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_beyond_the_calibrated_range_are_neither_signed_for_nor_judged(model: TinyModel, dtype: WireDtype) -> None:
    """A worker refuses them by the same rule, exactly: the bytes decide."""
    session = load(model, dtype, (50, 50, 50))
    rows = make_rows(1.0, dtype)
    rows[7, 9] = 50.0
    assert judge(session, rows, run(session, rows)).ok
    session.run(session.open_kv(32), rows)
    rows[7, 9] = 50.5
    with pytest.raises(RowsOutOfRange, match="calibrated for 50"):
        session.run(session.open_kv(32), rows)
    with pytest.raises(UnjudgeableError, match="calibrated for 50"):
        judge(session, rows, 2 * run(session, rows))
    assert judge(session, rows, run(session, rows)).ok, "equal bytes pass, always"
