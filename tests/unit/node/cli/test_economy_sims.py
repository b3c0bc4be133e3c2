"""`myelin sim economy`: what it prints, what it writes, and how it answers options that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from node.cli import main
from node.cli.economy_sims import ChangeInvalid, parse_changes

SHORT = ["sim", "economy", "--scenario", "withholding", "--epochs", "1", "--seeds", "1", "--jobs", "1"]


def test_a_report_names_margins_supply_and_who_lives_on_fees() -> None:
    done = CliRunner().invoke(main.app, [*SHORT, "--json"])
    result = json.loads(done.stdout)
    (found,) = result["scenarios"]
    assert (found["scenario"], found["strength"], found["is_usual"]) == ("withholding", 0, True)
    assert done.exit_code == int(found["pays"])
    assert [one["role"] for one in result["without_emission"]] == ["workers", "validators"]
    assert result["supply"][-1]["year"] == 40
    assert result["honest"]["requests"] == 80


def test_plots_are_written_and_every_strength_is_run(tmp_path: Path) -> None:
    done = CliRunner().invoke(main.app, [*SHORT, "--plot", str(tmp_path / "plots")])
    assert done.stdout.count("withholding") == 3, done.output
    assert {one.name for one in (tmp_path / "plots").iterdir()} == {"margins.svg", "supply.svg", "withholding.svg"}


@pytest.mark.parametrize("text", ["inference.nothing=1", "inference.burn_permille", "inference.burn_permille=-1", "=1"])
def test_what_changes_no_parameter_is_refused(text: str) -> None:
    with pytest.raises(ChangeInvalid):
        parse_changes([text])


def test_changes_are_names_and_numbers() -> None:
    assert parse_changes(["inference.burn_permille=7"]) == (("inference.burn_permille", 7),)
