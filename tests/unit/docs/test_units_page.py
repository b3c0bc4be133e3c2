"""proto_specs/units.md against the code: the tables of settings, units, parts, kinds and forms."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from inference.engine.golden import GOLDEN_POSITIONS, RANGE_SLACK
from inference.model.checkpoint.e4m3 import NAN_BITS
from inference.model.layout import ALIGNMENT_BYTES
from inference.model.tokenizer.data import TokenizerData
from proto_specs.limits import CHUNK_BYTES, PROFILE_TEXT_BYTES_MAX
from proto_specs.types.manifest import Form, UnitKind
from tests.unit.docs.unit_parts import make_parts_table, make_settings_table, make_units_table

PAGE = (Path(__file__).parents[3] / "proto_specs/units.md").read_text("utf-8")


def read_table(first: str) -> list[str]:
    """Lines of the page's table that begins so."""
    return PAGE[PAGE.index(first) :].partition("\n\n")[0].splitlines()


@pytest.mark.parametrize("made", [make_units_table(), make_parts_table()], ids=["units", "parts"])
def test_tables_are_what_the_families_say(made: list[str]) -> None:
    assert read_table(made[0]) == made, "python -m tests.unit.docs.unit_parts prints the tables"


def test_settings_are_those_of_the_families_each_with_its_meaning() -> None:
    made = make_settings_table()
    lines = read_table(made[0])
    assert [line.rpartition(" | ")[0] + " |" for line in lines[2:]] == made[2:]
    assert all(len(line.split(" | ")[-1]) > 10 for line in lines[2:])


def test_kinds_and_forms_have_their_numbers() -> None:
    kinds = re.findall(r"([A-Z_]+) (\d+)", "\n".join(line.split("|")[1] for line in read_table("| kind | index")))
    assert [(name, int(number)) for name, number in kinds] == [(one.name, one.value) for one in UnitKind]
    forms = re.findall(r"(\w+) (\d+)", "\n".join(line.split("|")[1] for line in read_table("| form | roles")))
    assert {(name, int(number)) for name, number in forms} == {(one.name, one.value) for one in Form}


def test_numbers_of_the_text() -> None:
    for words in (
        f"a text of at most {PROFILE_TEXT_BYTES_MAX} bytes",
        f"begins at a multiple of {ALIGNMENT_BYTES}",
        f"The golden window is {GOLDEN_POSITIONS} token ids",
        f"times {RANGE_SLACK}, rounded up",
        f"the code {NAN_BITS} with or without sign",
    ):
        assert words in PAGE
    assert CHUNK_BYTES == 2**20


def test_the_tokenizer_unit_has_these_fields() -> None:
    named = re.findall(r"`(\w+)`", "\n".join(line.split("|")[1] for line in read_table("| field | content")))
    assert sorted(named) == sorted(TokenizerData.__dataclass_fields__)
