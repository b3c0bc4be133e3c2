"""docs/threat-model.md and docs/economics.md name tests, pages and plots that are there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = ("threat-model.md", "economics.md")


def read_page(name: str) -> str:
    return (ROOT / "docs" / name).read_text("utf-8")


def list_functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return {one.name for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_is_named_exists(page: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", read_page(page))
    assert named
    for path, function in named:
        assert (ROOT / path).is_file(), path
        if function:
            assert function in list_functions(ROOT / path), f"{path}::{function}"


def test_every_attack_names_a_test() -> None:
    rows = [one for one in read_page("threat-model.md").splitlines() if re.match(r"\| (?!attack|-)", one)]
    assert len(rows) > 40
    for row in rows:
        cells = row.strip("|").split(" | ")
        assert len(cells) == 4, row
        assert "`tests/" in cells[3], row


def test_every_file_of_attacks_has_a_row() -> None:
    page = read_page("threat-model.md") + read_page("economics.md")
    elsewhere = {
        "test_api_keys.py",
        "test_extreme_draws.py",
        "test_idle_memory.py",
        "test_lying_workers.py",
        "test_shared_session_files.py",
        "test_unpaid_answers.py",
    }
    files = {one.name for one in (ROOT / "tests" / "attacks").glob("test_*.py")}
    assert elsewhere <= files
    assert {one for one in files - elsewhere if one not in page} == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_page_and_plot_that_is_linked_exists(page: str) -> None:
    for link in re.findall(r"\]\(([\w./-]+)\)", read_page(page)):
        assert (ROOT / "docs" / link).exists(), link
