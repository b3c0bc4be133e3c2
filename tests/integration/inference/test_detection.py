"""What the check tells on the real model: honest work of another engine passes, every cheat of every shard fails."""

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


@pytest.fixture(scope="module")
def inputs(real: RealModel, shards: list[ShardSession]) -> Inputs:
    """What each honest shard is fed."""
    rows: Inputs = [_make_tokens(real)]
    for session in shards[:-1]:
        rows.append(session.run(session.open_kv(96), rows[-1]).hidden)
    return rows


@pytest.fixture
def workspace() -> Iterator[Path]:
    """Doctored weights are large: gone when the test is."""
    path = Path(tempfile.mkdtemp())
    yield path / "doctored"
    shutil.rmtree(path)


def _measure(
    real: RealModel, honest: ShardSession, rows: NDArray[np.uint32] | NDArray[np.float32], claimed: NDArray[np.float32]
) -> list[int]:
    profile = real.manifest.profile
    return [
        verify_window(honest, rows[:end], start, claimed[start:end], profile, SEED).distance_ppb
        for start, end in WINDOWS
    ]


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("cheat", ["quantise", "perturb", "skip"])
def test_cheats_are_far_above_the_threshold(
    real: RealModel, shards: list[ShardSession], inputs: Inputs, workspace: Path, cheat: str, stage: int
) -> None:
    architecture = real.manifest.architecture
    start, end = CUTS[stage]
    cheating = load_doctored(real.directory, workspace, ShardRange(architecture, start, end), Cheat(cheat))
    claimed = cheating.run(cheating.open_kv(96), inputs[stage]).hidden
    distances = _measure(real, shards[stage], inputs[stage], claimed)
    print(f"{cheat} {CUTS[stage]}: " + " ".join(f"{one / 1e9:.1e}" for one in distances))
    assert min(distances) > 500 * real.manifest.profile.threshold_ppb


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
    assert min(later) > 100 * real.manifest.profile.threshold_ppb


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_the_same_build_has_distance_zero(
    real: RealModel, shards: list[ShardSession], inputs: Inputs, stage: int
) -> None:
    claimed = shards[stage].run(shards[stage].open_kv(96), inputs[stage]).hidden
    assert _measure(real, shards[stage], inputs[stage], claimed) == [0] * len(WINDOWS)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_transformers_on_torch_is_honest(real: RealModel, whole: ShardSession, shards: list[ShardSession]) -> None:
    """Another engine, with its own reader of the same file: logits within 5e-4, distances a fifth of the threshold."""
    import torch
    import transformers
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = transformers.LlamaConfig(**load_gguf_checkpoint(str(real.gguf))["config"])
    model = transformers.LlamaForCausalLM(config).eval()
    loaded = load_gguf_checkpoint(str(real.gguf), return_tensors=True, model_to_load=model)
    assert model.load_state_dict(loaded["tensors"], strict=False).missing_keys == ["lm_head.weight"]
    model.tie_weights()
    tokens = _make_tokens(real)
    final: list[NDArray[np.float32]] = []  # before the final norm, which `hidden_states` applies to its last entry
    model.model.norm.register_forward_pre_hook(lambda module, given: final.append(given[0][0].numpy()))
    with torch.no_grad():
        output = model(torch.from_numpy(tokens.astype(np.int64))[None], output_hidden_states=True)
    ours = whole.run(whole.open_kv(96), tokens, tuple(range(96))).logits
    assert ours is not None
    theirs = output.logits[0].numpy()
    print(f"logits differ by {np.abs(theirs - ours).max():.1e}")
    assert np.abs(theirs - ours).max() < 5e-4
    assert (theirs.argmax(axis=1) == ours.argmax(axis=1)).all()
    streams = [output.hidden_states[10][0].numpy(), output.hidden_states[20][0].numpy(), final[0]]
    for stage, entered in enumerate([tokens, *streams[:2]]):
        distances = _measure(real, shards[stage], entered, streams[stage])
        print(f"torch {CUTS[stage]}: " + " ".join(f"{one / 1e9:.1e}" for one in distances))
        assert 0 < max(distances) < real.manifest.profile.threshold_ppb // 5
