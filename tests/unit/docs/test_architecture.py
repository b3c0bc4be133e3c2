"""ARCHITECTURE.md against the tree: every file it names exists, and every arrow of its journeys is in the code."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
FILE = re.compile(r"\b(?:node|inference|consensus|genesis|proto_specs|docs|tests|benchmarks)/[\w/.-]*\w(?:\.\w+)?/?")
NODE = re.compile(r"(\w+)(?:\[([^\]]+)\])?")
ARROW = re.compile(r"\s*-->(?:\|(\w+)\|)?\s*")


@dataclass(frozen=True)
class Arrow:
    """From one file to another; `word` is the name of the call or message, None for an import."""

    source: str
    target: str
    word: str | None


def read_journeys(page: str) -> dict[str, list[Arrow]]:
    """Title -> arrows, in the order of the page."""
    found = {}
    for title, body in re.findall(r"### (Journey \d+: [^\n]+)\n\n```mermaid\nflowchart LR\n(.*?)```", page, re.DOTALL):
        files: dict[str, str] = {}
        arrows = []
        for line in body.strip().splitlines():
            parts = ARROW.split(line.strip())  # node, word, node, word, node ...
            for part in parts[::2]:
                match = NODE.fullmatch(part)
                assert match is not None, f"{title}: {part!r} is no node"
                name, file = match.groups()
                if file is not None:
                    assert name not in files, f"{title}: {name} is named twice"
                    files[name] = file
            names = [part.partition("[")[0] for part in parts[::2]]
            arrows += [(*pair, word) for pair, word in zip(pairwise(names), parts[1::2], strict=True)]
        found[title] = [Arrow(files[source], files[target], word) for source, target, word in arrows]
    return found


def list_imports(path: Path) -> set[str]:
    """Every module a file imports, and every name out of one, dotted."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{one.name}" for one in node.names)}
    return found


def list_words(path: Path) -> set[str]:
    """Every identifier of a file's code: what it defines, calls, or reads as an attribute."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
                found.add(name)
    return found


def get_module(file: str) -> str:
    return file.removesuffix(".py").replace("/", ".")


def is_in_code(arrow: Arrow, root: Path = ROOT) -> bool:
    """Whether the code has what an arrow says."""
    source, target = root / arrow.source, root / arrow.target
    if arrow.word is not None:
        return arrow.word in {one.lstrip("_") for one in list_words(source)} & {
            one.lstrip("_") for one in list_words(target)
        }
    return get_module(arrow.target) in list_imports(source) or get_module(arrow.source) in list_imports(target)


JOURNEYS = read_journeys(PAGE)


def test_there_are_three_journeys() -> None:
    assert [title.partition(":")[0] for title in JOURNEYS] == ["Journey 1", "Journey 2", "Journey 3"]
    assert all(len(arrows) >= 10 for arrows in JOURNEYS.values())


@pytest.mark.parametrize(
    "arrow", [one for arrows in JOURNEYS.values() for one in arrows], ids=lambda one: f"{one.source}>{one.target}"
)
def test_an_arrow_is_in_the_code(arrow: Arrow) -> None:
    assert is_in_code(arrow), arrow


@pytest.mark.parametrize("title", JOURNEYS)
def test_a_journey_is_one_way_through(title: str) -> None:
    """Every file of it is reached from its first."""
    arrows = JOURNEYS[title]
    linked, seen = {arrows[0].source}, set()
    while linked != seen:
        seen = set(linked)
        linked |= {one.target for one in arrows if one.source in seen} | {
            one.source for one in arrows if one.target in seen
        }
    assert linked == {file for one in arrows for file in (one.source, one.target)}


def test_every_file_that_is_named_exists() -> None:
    named = {
        one.rstrip("/")
        for page in ("ARCHITECTURE.md", "README.md")
        for one in FILE.findall((ROOT / page).read_text("utf-8"))
    }
    assert len(named) > 60
    assert sorted(one for one in named if not (ROOT / one).exists()) == []


def test_the_layers_are_those_of_the_contract() -> None:
    """The table's folders, from the top, are the layers in pyproject.toml."""
    told = [
        sorted(re.findall(r"`([\w/]+)`", row.split("|")[2])) for row in re.findall(r"^\| \d \|.*$", PAGE, re.MULTILINE)
    ]
    contract = re.search(
        r'containers = \["node"\]\nlayers = \[\n(.*?)\n\]', (ROOT / "pyproject.toml").read_text("utf-8"), re.DOTALL
    )
    assert contract is not None
    kept = [sorted(one.replace(".", "/") for one in re.findall(r"[\w.]+", line)) for line in contract[1].splitlines()]
    assert told == kept


def test_the_checks_see_what_they_look_for(tmp_path: Path) -> None:
    """Against themselves: an arrow that is not in the code is found."""
    (tmp_path / "a.py").write_text("from b import f\n\n\ndef send(x):\n    return x.settle()\n", "utf-8")
    (tmp_path / "b.py").write_text("def f():\n    '''settle'''\n", "utf-8")
    assert is_in_code(Arrow("a.py", "b.py", None), tmp_path)
    assert is_in_code(Arrow("b.py", "a.py", None), tmp_path)
    assert not is_in_code(Arrow("a.py", "b.py", "settle"), tmp_path)
    assert not is_in_code(Arrow("a.py", "a.py", None), tmp_path)
