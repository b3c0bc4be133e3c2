"""Narrowing finds the layer that was computed wrong, and none in honest work however its machine rounds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference.engine.layerwise import Disputed, Narrowing, compute_boundaries, find_fault, measure_range
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.errors import EngineError, UnjudgeableError
from proto_specs.types.manifest import WireDtype
from tests.actors.doctor import Cheat, write_doctored
from tests.unit.inference.conftest import TinyModel

TOKENS = np.random.default_rng(5).integers(0, 200, 48).astype(np.uint32)
WINDOW = 32


def show_all(model: TinyModel, directory: Path) -> list[Any]:
    """The rows at every boundary that somebody with these weights computes."""
    return [TOKENS, *(one.hidden for one in compute_boundaries(model.manifest, directory, 0, 3, TOKENS))]


def dispute(model: TinyModel, claimed: Any, dtype: WireDtype = WireDtype.FP32) -> Disputed:
    sent = decode_rows(encode_rows(claimed, dtype), dtype, 64)
    manifest = replace(model.manifest, wire_dtype=dtype)
    return Disputed(manifest, model.directory, 0, 3, TOKENS, WINDOW, sent)


@pytest.mark.parametrize("dtype", [WireDtype.FP32, WireDtype.BF16])
def test_honest_work_is_right_in_every_layer(model: TinyModel, dtype: WireDtype) -> None:
    session = model.load(0, 3)
    kv = session.open_kv(48)
    decoded = np.concatenate([session.run(kv, TOKENS[at : at + 1]).hidden for at in range(48)])
    rows = show_all(model, model.directory)
    found = find_fault(dispute(model, decoded[WINDOW:], dtype), lambda at: rows[at])
    assert found.is_right
    assert found.distance_ppb * 2 < found.threshold_ppb


@pytest.mark.parametrize("layer", [0, 1, 2])
@pytest.mark.parametrize("kind", [Cheat.PERTURB, Cheat.QUANTISE, Cheat.SKIP])
def test_the_layer_that_was_computed_wrong_is_found(model: TinyModel, tmp_path: Path, layer: int, kind: Cheat) -> None:
    write_doctored(model.directory, tmp_path / "doctored", model.cut(layer, layer + 1), kind)
    for file in model.directory.iterdir():  # the other layers are those of the model
        if not (tmp_path / "doctored" / file.name).exists():
            (tmp_path / "doctored" / file.name).symlink_to(file)
    rows = show_all(model, tmp_path / "doctored")
    found = find_fault(dispute(model, rows[3][WINDOW:]), lambda at: rows[at])
    assert not found.is_right
    assert found.layer == layer
    assert found.distance_ppb > 10 * found.threshold_ppb


@pytest.mark.parametrize("lie", ["own rows", "no rows", "too few", "of another prompt"])
def test_who_claims_what_follows_from_nothing_fails_somewhere(model: TinyModel, lie: str) -> None:
    """The accused may show what it likes: one step has to bridge to what it signed."""
    rows = show_all(model, model.directory)
    claimed = rows[3][WINDOW:] + np.float32(0.01) * np.abs(rows[3][WINDOW:])
    shown = {
        "own rows": lambda at: rows[at],
        "no rows": lambda at: np.full_like(rows[at], np.nan),
        "too few": lambda at: rows[at][1:],
        "of another prompt": lambda at: rows[at][::-1].copy(),
    }[lie]
    assert not find_fault(dispute(model, claimed), shown).is_right


def test_one_layer_tells_more_than_the_shard(model: TinyModel) -> None:
    """An error of the same size is a larger part of what one layer adds."""
    rows = show_all(model, model.directory)
    off = rows[3][WINDOW:] * np.float32(1 + 1e-5)
    disputed = dispute(model, off)
    whole = measure_range(disputed, 0, 3, TOKENS, off)
    assert measure_range(disputed, 2, 3, rows[2], off) > whole


def test_halves() -> None:
    asked, steps = Narrowing(0, 30), 0
    while not asked.is_one_layer:
        asked, steps = asked.narrow(asked.middle <= 17), steps + 1
    assert (asked.low, steps) == (17, 5)
    with pytest.raises(EngineError, match="no middle"):
        asked.narrow(True)


def test_layers_that_change_nothing_are_not_judged(model: TinyModel, tmp_path: Path) -> None:
    idle = write_doctored(model.directory, tmp_path / "idle", model.cut(1, 2), Cheat.SKIP)
    rows = np.random.default_rng(6).integers(-8, 8, (4, 64)).astype(np.float32)
    disputed = Disputed(idle, tmp_path / "idle", 1, 2, rows, 2, rows[2:] + 1)
    with pytest.raises(UnjudgeableError, match="cannot be compared"):
        measure_range(disputed, 1, 2, rows, rows[2:] + 1)
