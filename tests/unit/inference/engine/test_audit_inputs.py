"""The inputs of audits are the same on every machine, of the size of real ones, and of use in one audit alone."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from inference.engine.audit_inputs import draw_rows, draw_tokens, make_audit_inputs
from inference.errors import UnjudgeableError
from proto_specs.types.audit import AUDIT_POSITIONS
from proto_specs.types.manifest import WireDtype
from tests.unit.inference.conftest import TinyModel

SUBJECT = bytes(range(32))
TOKENS = [14823, 35454, 2718, 2536]
FIRST = [-0.5535714626312256, -1.75, -2.625]
DIGEST = "0f0d57379d48cce54b25305ff555a23892dce21b879d2441ac4094dff883dbc4"


def make_golden(width: int = 11) -> np.ndarray:
    """Rows whose fp32 values everybody can write down: (row - 5) * (channel + 1) / 7, rounded."""
    place = np.arange(32 * width).reshape(32, width)
    return ((place // width - 5) * (place % width + 1) / 7).astype(np.float32)


def test_the_bits_are_those_of_the_page() -> None:
    """The worked example of audits.md."""
    assert draw_tokens(SUBJECT, 49_152)[:4].tolist() == TOKENS
    rows = draw_rows(SUBJECT, make_golden(), WireDtype.FP32)
    assert rows[0, :3].tolist() == FIRST
    assert hashlib.sha256(rows.tobytes()).hexdigest() == DIGEST


@pytest.mark.parametrize("dtype", [WireDtype.FP32, WireDtype.FP16, WireDtype.BF16])
def test_rows_are_of_the_wire_and_within_the_range(dtype: WireDtype) -> None:
    golden = make_golden()
    rows = draw_rows(SUBJECT, golden, dtype)
    assert rows.shape == (AUDIT_POSITIONS, 11)
    assert rows.dtype == np.float32
    assert (np.abs(rows) <= np.abs(golden).max(axis=0) * 1.13).all(), "channel by channel"
    if dtype is WireDtype.BF16:
        assert not (rows.view(np.uint32) & 0xFFFF).any()


def test_another_audit_has_other_rows_everywhere() -> None:
    one, other = (draw_rows(bytes([seed]) * 32, make_golden(), WireDtype.FP32) for seed in (1, 2))
    assert not (one[1:] == other[1:]).all(axis=1).any()


@pytest.mark.parametrize("start", [0, 1, 2])
def test_a_shard_runs_on_them(model: TinyModel, start: int) -> None:
    inputs = make_audit_inputs(model.store, model.model_id, model.manifest, start, SUBJECT)
    session = model.load(start, 3)
    output = session.run(session.open_kv(AUDIT_POSITIONS), inputs)
    assert output.hidden.shape == (AUDIT_POSITIONS, 64)


def test_a_model_without_golden_windows_is_audited_at_its_first_shard_alone(model: TinyModel) -> None:
    bare = replace(model.manifest, ranges=(), units=tuple(one for one in model.manifest.units if one.kind < 5))
    make_audit_inputs(model.store, model.model_id, bare, 0, SUBJECT)
    with pytest.raises(UnjudgeableError, match="no golden windows"):
        make_audit_inputs(model.store, model.model_id, bare, 1, SUBJECT)
