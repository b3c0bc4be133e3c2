"""What the check tells on the real model, as it is imported: every cheat of every shard fails, in every window."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.engine.ort import ShardSession
from inference.engine.verify import verify_window
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.model.graph.shard import ShardRange
from tests.actors.cheating import load_doctored
from tests.actors.doctor import Cheat
from tests.integration.inference.conftest import CUTS, RealModel

SEED = bytes(range(32))
WINDOWS = ((0, 32), (32, 64), (64, 96), (1, 2), (40, 41), (95, 96))
"""Windows of 32 positions, and of a single row."""

Inputs = list[NDArray[np.uint32] | NDArray[np.float32]]


def _make_tokens(real: RealModel) -> NDArray[np.uint32]:
    text = "The history of computing began with mechanical devices, and people who used them. " * 6
    question = real.ask("Explain how photosynthesis works, step by step.")
    return np.concatenate([question, np.array(real.tokenizer.encode(text), np.uint32)])[:96]


def _send(session: ShardSession, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    return decode_rows(encode_rows(rows, session.wire_dtype), session.wire_dtype, rows.shape[1])


@pytest.fixture(scope="module")
def inputs(real: RealModel, shards: list[ShardSession]) -> Inputs:
    """What each honest shard is fed."""
    rows: Inputs = [_make_tokens(real)]
    for session in shards[:-1]:
        rows.append(_send(session, session.run(session.open_kv(96), rows[-1]).hidden))
    return rows


@pytest.fixture
def workspace() -> Iterator[Path]:
    """Doctored weights are large: gone when the test is."""
    path = Path(tempfile.mkdtemp())
    yield path / "doctored"
    shutil.rmtree(path)


def _measure(
    real: RealModel, honest: ShardSession, rows: NDArray[np.uint32] | NDArray[np.float32], computed: NDArray[np.float32]
) -> list[int]:
    profile, claimed = real.manifest.profile, _send(honest, computed)
    return [
        verify_window(honest, rows[:end], start, claimed[start:end], profile, SEED).distance_ppb
        for start, end in WINDOWS
    ]


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize(
    ("cheat", "factor"), [("half", 5), ("int8", 500), ("quantise", 500), ("perturb", 500), ("skip", 500)]
)
def test_cheats_are_far_above_the_threshold(
    real: RealModel, shards: list[ShardSession], inputs: Inputs, workspace: Path, cheat: str, factor: int, stage: int
) -> None:
    start, end = CUTS[stage]
    cheating = load_doctored(real.directory, workspace, ShardRange(real.manifest, start, end), Cheat(cheat))
    claimed = cheating.run(cheating.open_kv(96), inputs[stage]).hidden
    distances = _measure(real, shards[stage], inputs[stage], claimed)
    print(f"{cheat} {CUTS[stage]}: " + " ".join(f"{one / 1e9:.1e}" for one in distances))
    assert min(distances) > factor * real.manifest.profile.threshold_ppb


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_one_early_token_changed_is_seen_in_every_later_window(
    real: RealModel, shards: list[ShardSession], inputs: Inputs, stage: int
) -> None:
    changed = inputs[stage].copy()
    changed[5] = changed[6]
    claimed = shards[stage].run(shards[stage].open_kv(96), changed).hidden
    distances = _measure(real, shards[stage], inputs[stage], claimed)
    print(f"token {CUTS[stage]}: " + " ".join(f"{one / 1e9:.1e}" for one in distances))
    later = [one for one, (_, end) in zip(distances, WINDOWS, strict=True) if end > 6]
    assert min(later) > 20 * real.manifest.profile.threshold_ppb


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_same_build_has_distance_zero(
    real: RealModel, shards: list[ShardSession], inputs: Inputs, stage: int
) -> None:
    claimed = shards[stage].run(shards[stage].open_kv(96), inputs[stage]).hidden
    assert _measure(real, shards[stage], inputs[stage], claimed) == [0] * len(WINDOWS)
