"""`myelin model plan` as a person runs it: a table, the same as JSON, the example, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from inference.model.importing import import_model
from node.cli import main
from proto_specs.errors import ExitStatus
from tests.unit.inference import tiny

PLANNING = Path(__file__).parents[2] / "inference" / "planning"
CONFIG, FLEET = PLANNING / "deepseek-r1" / "config.json", PLANNING / "home-24.toml"


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(main.app, ["model", "plan", *map(str, arguments)], terminal_width=200)


def read(*arguments: str | Path) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def r1() -> Any:
    return read(CONFIG, "--fleet", FLEET, "--precision", "q4")


def test_deepseek_r1_is_planned_over_24_home_gpus(r1: Any) -> None:
    assert r1["model"]["layers"] == 61
    assert r1["is_exact"]
    stages = r1["stages"]
    assert [layer for one in stages for layer in range(one["start"], one["end"])] == list(range(61))
    assert all(one["held_bytes"] <= one["room_bytes"] < one["memory_bytes"] for one in stages)
    assert len(r1["hops"]) == len(stages)
    assert r1["hops"][0]["bytes_per_token"] == 14336
    assert r1["hops"][-1]["bytes_per_token"] == 4
    assert r1["bottleneck"]["what"] == "delay of links"
    assert r1["prediction"]["speculative_tokens_per_s"] > r1["prediction"]["tokens_per_s"] > 2
    assert r1["prediction"]["first_token_s"] > 1


def test_the_ends_and_the_gains_are_those_of_the_kinds(r1: Any) -> None:
    for side in ("first", "last"):
        assert {one["kind"] for one in r1[side]} == {"rtx3090", "rtx4090", "rtx5090"}
        assert r1[side][0]["worse_s"] == pytest.approx(0, abs=1e-12)
        assert all(one["worse_s"] >= -1e-12 for one in r1[side])
    assert r1["stages"][0]["machine"].startswith(r1["first"][0]["kind"])
    gains = [one["prediction"]["tokens_per_s"] for one in r1["gains"]]
    assert len(gains) == 3
    assert min(gains) >= r1["prediction"]["tokens_per_s"] * (1 - 1e-9)


def test_a_person_sees_the_same(r1: Any) -> None:
    done = run(CONFIG, "--fleet", FLEET, "--precision", "q4")
    assert done.exit_code == 0, done.stderr
    for one in r1["stages"]:
        assert one["machine"] in done.stdout
    for said in ("671.0 B parameters", "the best there is", "first token after", "bottleneck: delay of links"):
        assert said in done.stdout
    assert f"{r1['prediction']['tokens_per_s']:.2f} tokens/s" in done.stdout
    assert "one more rtx5090" in done.stdout


def test_a_path_that_is_given_is_foreseen(r1: Any) -> None:
    path = ",".join(f"{one['machine'].rpartition('-')[0]}={one['start']}:{one['end']}" for one in r1["stages"])
    same = read(CONFIG, "--fleet", FLEET, "--precision", "q4", "--path", path)
    assert same["prediction"] == r1["prediction"]
    assert "gains" not in same
    whole = read(CONFIG, "--fleet", FLEET, "--precision", "q4", "--path", "rtx3090=0:30, rtx3090=30:61")
    assert len(whole["hops"]) == 2
    assert whole["stages"][0]["held_bytes"] > whole["stages"][0]["room_bytes"]  # it is said, not refused
    done = run(CONFIG, "--fleet", FLEET, "--precision", "q4", "--path", "rtx3090=0:61")
    assert "Placement: as given" in done.stdout


@pytest.mark.parametrize("objective", ["throughput", "first-token"])
def test_a_plan_is_best_at_what_it_is_for(r1: Any, objective: str) -> None:
    found = read(CONFIG, "--fleet", FLEET, "--precision", "q4", "--for", objective)["prediction"]
    key, sign = {"throughput": ("most_tokens_per_s", 1), "first-token": ("first_token_s", -1)}[objective]
    assert sign * found[key] >= sign * r1["prediction"][key] - 1e-9
    assert found["token_s"] >= r1["prediction"]["token_s"] * (1 - 1e-9)


def test_each_assumption_is_changed_in_turn(r1: Any) -> None:
    rows = read(CONFIG, "--fleet", FLEET, "--precision", "q4", "--sensitivity")
    assert rows[0]["assumption"] == "as planned"
    assert rows[0]["prediction"] == r1["prediction"]
    by = {(one["assumption"], one["change"]): one["prediction"] for one in rows}
    assert len(by) == len(rows) > 20
    for what in ("delay of links", "message overhead", "layer overhead"):
        assert by[what, "x 0.5"]["tokens_per_s"] >= by[what, "x 2"]["tokens_per_s"]
    for what in ("rate of links", "memory bandwidth", "arithmetic"):
        assert by[what, "x 0.5"]["tokens_per_s"] <= by[what, "x 2"]["tokens_per_s"]
    assert by["weights", "bf16"] is None
    done = run(CONFIG, "--fleet", FLEET, "--precision", "q4", "--sensitivity")
    assert "does not fit" in done.stdout


def test_the_example_fleet_plans_a_stored_model(tmp_path: Path) -> None:
    tiny.write_gguf(tmp_path / "tiny.gguf", tiny.make_weights())
    import_model(tmp_path / "tiny.gguf", tmp_path / "models", lambda done, total: None)
    example = run("--example-fleet")
    assert example.exit_code == 0
    (tmp_path / "fleet.toml").write_text(example.stdout)
    arguments = ("tiny", "--models", tmp_path / "models", "--fleet", tmp_path / "fleet.toml", "--prompt", "100")
    found = read(*arguments)
    assert found["model"]["name"] == "tiny"
    assert found["hops"] == []  # it fits one machine
    done = run(*arguments)
    assert "bottleneck" in done.stdout
    assert run(*arguments, "--sensitivity").exit_code == 0
    refused = run(*arguments, "--precision", "q4")
    assert refused.exit_code == ExitStatus.REFUSED
    assert "leave --precision out" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no model is named"),
        ((CONFIG,), "no fleet is given"),
        ((CONFIG, "--fleet", "/nowhere/fleet.toml"), "cannot be read"),
        ((CONFIG, "--fleet", CONFIG), "no TOML"),
        ((CONFIG, "--fleet", FLEET), "memory does not hold the model"),
        ((CONFIG, "--fleet", FLEET, "--precision", "q4", "--prompt", "0"), "prompt_tokens is 0"),
        ((CONFIG, "--fleet", FLEET, "--precision", "q4", "--prompt", "200000"), "context of 163840"),
        ((CONFIG, "--fleet", FLEET, "--path", "rtx3090"), "no range of layers"),
        ((CONFIG, "--fleet", FLEET, "--path", "rtx2090=0:61"), "no machine of the fleet"),
        ((CONFIG, "--fleet", FLEET, "--path", "rtx3090-9=0:61"), "no machine of the fleet"),
        ((CONFIG, "--fleet", FLEET, "--path", "rtx3090-2=0:30,rtx3090-2=30:61"), "takes machine rtx3090-2 twice"),
        ((CONFIG, "--fleet", FLEET, "--path", "rtx3090=0:60"), "ends at layer 60 of 61"),
        ((CONFIG, "--fleet", FLEET, "--path", "rtx3090=0:62"), "0 is the next of 61"),
        ((CONFIG, "--fleet", FLEET, "--path", "rtx3090=0:30,rtx3090=31:61"), "30 is the next of 61"),
        ((CONFIG, "--fleet", FLEET, "--path", ",".join(f"rtx5090={n}:{n + 1}" for n in range(61))), "than the 6"),
        ((CONFIG, "--fleet", FLEET, "--precision", "q9"), "precision 'q9' is unknown"),
    ],
)
def test_what_cannot_be_planned_is_said_in_one_line(arguments: tuple[str | Path, ...], said: str) -> None:
    done = run(*arguments)
    assert done.exit_code == ExitStatus.REFUSED
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
