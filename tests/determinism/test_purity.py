"""Nothing in proto_specs and consensus can come out differently on two nodes, as far as its source tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.determinism.purity import check_sources

ROOT = Path(__file__).parents[2]
PURE = ("proto_specs", "consensus")

ALLOWED = {
    ("consensus/state/overlay.py", "for key in bottom.keys() - self._read.keys():"): "fills a dict that is only looked "
    "up by key; what is returned is sorted",
    ("proto_specs/codegen.py", "exec(code, scope)  # noqa: S102"): "the source follows from the declared fields alone",
}
"""(file, source line) -> why its order reaches nobody."""


def list_sources() -> list[tuple[str, str]]:
    paths = sorted(path for package in PURE for path in (ROOT / package).rglob("*.py"))
    return [(str(path.relative_to(ROOT)), path.read_text("utf-8")) for path in paths]


def test_the_pure_packages_are_pure() -> None:
    sources = list_sources()
    assert len(sources) > 60
    found = [str(one) for one in check_sources(sources) if (one.path, one.code) not in ALLOWED]
    assert found == []


def test_every_exception_is_still_needed() -> None:
    found = {(one.path, one.code) for one in check_sources(list_sources())}
    assert {one for one in ALLOWED if one not in found} == set(), "take these out of ALLOWED"


IMPURE = {
    "float literal": ["x = 0.5", "x = 1e3", "x = 2j"],
    "true division": ["x = a / b", "x /= 2"],
    "negative power": ["x = 2 ** -1"],
    "import": [
        "import time",
        "import os.path",
        "from random import choice",
        "from datetime import datetime",
        "import math",
    ],
    "use of hash": ["x = hash(a)", "x = sorted(a, key=hash)"],
    "use of id": ["x = id(a)"],
    "use of float": ["x = float(a)"],
    "use of round": ["x = round(a)"],
    "iteration over a set": [
        "for x in {1, 2}: pass",
        "x = [a for a in set(b)]",
        "x = list({a for a in b})",
        "x = tuple(set(a) | b)",
        "x = dict.fromkeys(set(a))",
        "x = b''.join({a, b})",
        "x = {a: 1 for a in frozenset(b)}",
        "for x in a.keys() - b.keys(): pass",
        "x = a.items() & b.items()\nfor y in x: pass",
        "x = [*{a, b}]",
        "x = a.union(b)\ny = tuple(x)",
        "def f(a: set[int]) -> list[int]:\n    return [one for one in a]",
        "def f(a: dict[int, set[int]]) -> None:\n    for one in a[0]: pass",
        "def f(a: dict[int, set[int]]) -> None:\n    for one in a.values():\n        for other in one: pass",
        "class A:\n    b: frozenset[int]\ndef f(a: A) -> None:\n    for one in a.b: pass",
        "class A:\n    def __init__(self):\n        self.b = set()\n    def f(self):\n        x = next(iter(self.b))",
        "def f() -> set[int]: ...\nfor x in f(): pass",
        "def f(a):\n    yield from {1, a}",
        "x = sum([a for a in {b, c}], start=d)",
        "if x := {a}:\n    y = list(x)",
    ],
    "ties among a set's members": ["x = max({a, b}, key=len)", "x = sorted(set(a), key=len)"],
    "pop from a set": ["x = {a}\nx.pop()"],
    "text of a set": ["x = f'{set(a)}'"],
}
PURE_ENOUGH = [
    "x = sorted(set(a))",
    "x = len({a, b})",
    "x = {a for a in b} | {c}",
    "x = any(a for a in {b, c})",
    "x = max(a for a in {b})",
    "if a in {1, 2}: pass",
    "for x in a.keys(): pass",
    "for x in sorted(a.keys() | b.keys()): pass",
    "x = a - b",
    "x = a // b",
    "x = [a for a in b]",
    "x = {a: 1 for a in b}",
    "def f(a: dict[int, int]) -> int:\n    return a[0]",
]


@pytest.mark.parametrize(("rule", "source"), [(rule, one) for rule, some in IMPURE.items() for one in some])
def test_what_is_impure_is_found(rule: str, source: str) -> None:
    assert [one.rule for one in check_sources([("a.py", source)])] == [rule]


@pytest.mark.parametrize("source", PURE_ENOUGH)
def test_what_is_ordered_is_left_alone(source: str) -> None:
    assert check_sources([("a.py", source)]) == []
