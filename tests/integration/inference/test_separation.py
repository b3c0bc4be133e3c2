"""How far honest engines and the weakest cheats stand apart, by wire dtype and layers: the table of docs/models.md.

Slow, and printed with `-s`. All of a range are given the same input, as a wire of that dtype would carry it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.engine.ort import ShardSession
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.fingerprint import Scale, compute_delta, compute_distance, compute_scale
from inference.model.graph.shard import ShardRange
from inference.model.profiles import make_profile
from proto_specs.types.manifest import ServiceClass, WireDtype
from tests.actors.cheating import load_doctored
from tests.actors.doctor import Cheat
from tests.integration.inference.claimants import (
    CHANGED_POSITION,
    Inputs,
    Rows,
    TorchModel,
    add_noise,
    change_one_row,
    run_all,
    run_one_by_one,
)
from tests.integration.inference.conftest import CUTS, RealModel

POSITIONS, WINDOW = 256, 32
WIRES = (WireDtype.FP32, WireDtype.FP16, WireDtype.BF16)
RANGES = ((0, 1), *CUTS)
HONEST = ("torch", "row by row")
SEPARATION = 30
"""The least ratio of the weakest cheat to the worst honest engine, in the same range, dtype and length of window."""

MARGIN = 3
"""The least ratio of either to the threshold."""


@dataclass(frozen=True)
class Reference:
    """What a verifier of one range and dtype has: the input, its own rows, and the scale up to every position."""

    wire: WireDtype
    inputs: Inputs
    entered: Rows
    own: Rows
    scales: list[Scale]

    def measure(self, computed: Rows, length: int, first: int) -> list[int]:
        """Distances of the windows of `length` from position `first` on, once sent."""
        claimed = _send(computed, self.wire)
        windows = [slice(one, one + length) for one in range(first, POSITIONS - length + 1, length)]
        return [
            compute_distance(claimed[one], self.own[one], self.entered[one], self.scales[one.stop - 1], self.wire)
            for one in windows
        ]


def _send(rows: Rows, wire: WireDtype) -> Rows:
    return decode_rows(encode_rows(rows, wire), wire, rows.shape[1])


@pytest.fixture(scope="module")
def tokens(real: RealModel) -> NDArray[np.uint32]:
    text = "The history of computing began with mechanical devices, and people who used them. " * 3
    text += "Water boils at 100 degrees; at 3,000 m it boils at 90. def f(x): return x**2 + 1\n Où est la gare? " * 9
    question = real.ask("Explain how photosynthesis works, step by step.")
    return np.concatenate([question, np.array(real.tokenizer.encode(text), np.uint32)])[:POSITIONS]


@pytest.fixture(scope="module")
def torch_model(real: RealModel) -> TorchModel:
    return TorchModel(real.gguf)


@pytest.fixture
def workspace() -> Iterator[Path]:
    """Doctored weights are large: gone when the test is."""
    path = Path(tempfile.mkdtemp())
    yield path
    shutil.rmtree(path)


def _prepare(whole: Inputs, session: ShardSession, wire: WireDtype) -> Reference:
    inputs = whole if whole.dtype == np.uint32 else _send(whole, wire)
    output = session.run(session.open_kv(POSITIONS), inputs)
    entered = inputs if output.embedded is None else output.embedded
    delta = compute_delta(output.hidden, entered)
    scales = [compute_scale(delta[: one + 1]) for one in range(POSITIONS)]
    return Reference(wire, inputs, entered, output.hidden, scales)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("layers", RANGES, ids=lambda one: f"{one[0]}-{one[1]}")
def test_honest_engines_and_cheats_stand_apart(
    real: RealModel, tokens: NDArray[np.uint32], torch_model: TorchModel, workspace: Path, layers: tuple[int, int]
) -> None:
    shard = ShardRange(real.manifest, *layers)
    session = ShardSession(shard, real.directory)
    entered: Inputs = tokens
    if layers[0]:
        entered = run_all(ShardSession(ShardRange(real.manifest, 0, layers[0]), real.directory), tokens)
    doctored = {
        one: load_doctored(real.directory, workspace / one.value, shard, one) for one in (Cheat.HALF, Cheat.INT8)
    }
    for wire in WIRES:
        reference = _prepare(entered, session, wire)
        rows = reference.inputs
        claims = {
            "torch": torch_model.run(*layers, rows),
            "row by row": run_one_by_one(shard, real.directory, rows),
            "fp16 weights": run_all(doctored[Cheat.HALF], rows),
            "int8 weights": run_all(doctored[Cheat.INT8], rows),
            "int8 KV": torch_model.run_with_int8_kv(*layers, rows),
            "0.1 % noise": add_noise(session, rows),
            "one token": change_one_row(session, rows),
        }
        assert reference.measure(run_all(session, rows), WINDOW, 0) == [0] * (POSITIONS // WINDOW)
        for length in (WINDOW, 1):
            # A row alone at position 0 is what no request has that is worth a cheat: its delta is of one token.
            least = 1 if length == 1 else 0
            # Rows before the changed one are right, so its windows begin with it.
            first = {"one token": CHANGED_POSITION // length * length}
            found = {name: reference.measure(one, length, first.get(name, least)) for name, one in claims.items()}
            _compare(f"{layers} {wire.name} {length} rows", found, make_profile(ServiceClass.EXACT, wire).threshold_ppb)


def _compare(title: str, found: dict[str, list[int]], threshold: int) -> None:
    worst = {name: max(found[name]) for name in HONEST}
    weakest = {name: min(one) for name, one in found.items() if name not in HONEST}
    shown = [f"{name} {one / 1e9:.1e}" for name, one in (*worst.items(), *weakest.items())]
    honest, cheat = max(worst.values()), min(weakest.values())
    print(f"{title}: {', '.join(shown)}; {cheat / honest:.0f} x; {threshold / honest:.1f} x, {cheat / threshold:.1f} x")
    assert cheat >= SEPARATION * honest
    assert MARGIN * honest <= threshold
    assert cheat >= MARGIN * threshold


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_logits_of_torch_are_ours(whole: ShardSession, tokens: NDArray[np.uint32], torch_model: TorchModel) -> None:
    """Another engine, with its own reader of the same file: logits within 5e-4 and the same greedy tokens."""
    ours = whole.run(whole.open_kv(POSITIONS), tokens, tuple(range(POSITIONS))).logits
    assert ours is not None
    theirs = torch_model.compute_logits(tokens)
    print(f"logits differ by {np.abs(theirs - ours).max():.1e}")
    assert np.abs(theirs - ours).max() < 5e-4
    assert (theirs.argmax(axis=1) == ours.argmax(axis=1)).all()
