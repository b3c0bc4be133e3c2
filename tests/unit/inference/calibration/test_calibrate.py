"""A tiny model is calibrated: honest machines stay within its thresholds, cheats do not, and a run goes on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from inference.calibration import calibrate
from inference.calibration.calibrate import CalibrationPlan, apply, choose_starts, measure_model, write_calibrated
from inference.calibration.substitutes import Weights, write_layer
from inference.calibration.tallies import Boundary, DistanceTally
from inference.calibration.thresholds import MARGIN, THRESHOLD_MIN, choose
from inference.errors import CalibrationError
from inference.model.store import ShardStore
from node.cli.main import app
from proto_specs.types.manifest import ServiceClass, compute_model_id, validate_manifest
from tests.unit.inference.conftest import TinyModel

LAYERS = 3
SAMPLES = {
    kind: np.random.default_rng(seed).integers(3, 250, count).astype(np.uint32)
    for seed, (kind, count) in enumerate({"one": 70, "other": 70}.items())
}
PLAN = CalibrationPlan((0, 2), SAMPLES)


@pytest.fixture(scope="module")
def found(model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> list[Boundary]:
    return measure_model(model.store, model.model_id, PLAN, tmp_path_factory.mktemp("work"), lambda done, total: None)


def test_every_shard_from_every_start_is_measured(found: list[Boundary]) -> None:
    assert [(one.start, one.end) for one in found] == [(0, 1), (0, 2), (0, 3), (2, 3)]
    assert all(one.honest and one.cheats for one in found)
    assert all(bool(one.stretched) == (one.start > 0) for one in found)


def test_thresholds_stand_between_honest_machines_and_cheats(found: list[Boundary]) -> None:
    for one in choose(found, LAYERS):
        worst = max(one.prefill_worst, one.decode_worst)
        assert one.threshold >= max(MARGIN * worst, THRESHOLD_MIN)
        assert one.weakest > one.threshold
        named = {missed.name for missed in one.missed}
        assert not named & {"int8 weights", "int4 weights", "1 % weight noise", "a layer skipped"}


def test_the_manifest_gets_them_under_a_new_id(model: TinyModel, found: list[Boundary]) -> None:
    manifest = apply(model.manifest, choose(found, LAYERS))
    validate_manifest(manifest)
    assert all(manifest.ranges)
    new_id = write_calibrated(model.store, model.model_id, manifest)
    assert new_id == compute_model_id(manifest) != model.model_id
    assert model.store.load_manifest(new_id).get_threshold(2) == manifest.thresholds[1]
    for unit in manifest.units:
        model.store.verify_unit(new_id, unit)
    assert write_calibrated(model.store, model.model_id, manifest) == new_id


def test_a_run_goes_on_behind_the_last_start(model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = measure_model(
        model.store, model.model_id, CalibrationPlan((0, 2), SAMPLES), tmp_path, lambda done, total: None
    )
    for file in sorted(tmp_path.iterdir())[1:]:
        file.write_text("[{}]")
    asked: list[int] = []
    measured = calibrate.measure_start
    monkeypatch.setattr(calibrate, "measure_start", lambda *given: asked.append(given[1]) or measured(*given))
    counted: list[tuple[int, int]] = []
    again = measure_model(
        model.store, model.model_id, CalibrationPlan((0, 2), SAMPLES), tmp_path, lambda *step: counted.append(step)
    )
    assert len(asked) == 1
    assert [one.to_json() for one in again] == [one.to_json() for one in first]
    assert counted[-1][0] == counted[-1][1]


def test_what_has_no_meaning_is_refused(model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="cut into 1 to 3 shards"):
        choose_starts(LAYERS, 4)
    assert choose_starts(LAYERS, 2) == (0, 1)
    fast = model.store.save_manifest(replace(model.manifest, name="fast", service_class=int(ServiceClass.FAST)))
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(CalibrationError, match="--work"):
        measure_model(model.store, model.model_id, PLAN, tmp_path / "file", lambda done, total: None)
    with pytest.raises(CalibrationError, match="fast class"):
        measure_model(model.store, fast, PLAN, tmp_path, lambda done, total: None)


def test_tallies_count_what_a_threshold_lets_pass() -> None:
    tally = DistanceTally()
    tally.add(np.array([5, 1, 9]))
    tally.add(np.array([], np.int64))
    assert (tally.count, tally.worst, tally.count_within(5)) == (3, 9, 2)
    assert DistanceTally.from_json(json.loads(json.dumps(tally.to_json()))) == tally


@pytest.mark.parametrize("weights", [one for one in Weights if one is not Weights.PUBLISHED])
def test_other_weights_are_other_rows(model: TinyModel, tmp_path: Path, weights: Weights) -> None:
    manifest = write_layer(model.directory, tmp_path / "written", model.manifest, 1, weights)
    assert [one.kind for one in manifest.units] == [one.kind for one in model.manifest.units]
    ours = model.store.get_unit_path(model.model_id, model.manifest.units[2]).read_bytes()
    theirs = (tmp_path / "written" / "layer-001.bin").read_bytes()
    assert (ours == theirs) == (weights is Weights.EXPANDED)


def test_the_command_prints_and_writes(model: TinyModel, tmp_path: Path) -> None:
    root = tmp_path / "models"
    store = ShardStore(root)
    copy_to(model, store)
    given = ["model", "calibrate", "tiny", "--models", str(root), "--windows", "1", "--shards", "1"]
    ran = CliRunner().invoke(app, [*given, "--json", "--write"])
    assert ran.exit_code == 0, ran.output
    answer = json.loads(ran.stdout)
    assert len(answer["boundaries"]) == LAYERS
    assert store.load_manifest(bytes.fromhex(answer["calibrated"][2:])).thresholds
    ran = CliRunner().invoke(app, [*given[:2], answer["model"], *given[3:]])
    assert "threshold" in ran.stdout


def copy_to(model: TinyModel, store: ShardStore) -> None:
    """A store of its own, so that its model has a name alone."""
    workspace = store.make_workspace()
    for unit in model.manifest.units:
        path = model.store.get_unit_path(model.model_id, unit)
        (workspace / path.name).write_bytes(path.read_bytes())
    store.adopt(workspace, model.manifest, "0" * 64)


def test_a_range_is_narrow_where_a_predecessor_could_convict() -> None:
    def make(start: int, end: int, stretched: int) -> Boundary:
        honest = {"single rows": {1: DistanceTally(9, 500, [])}}
        return Boundary(start, end, honest, {}, {"large": {1: DistanceTally(1, stretched, [])}} if start else {}, 10.0)

    wide, narrow = (choose([make(0, 1, 0), make(0, 2, 0), make(1, 2, worst)], 2) for worst in (500, 501))
    assert [one.largest_value for one in wide] == [160, 160]
    assert [one.largest_value for one in narrow] == [20, 160]
    assert narrow[0].stretched_worst == 501
