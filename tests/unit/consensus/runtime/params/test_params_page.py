"""The tables of params.md are what the code does: every bound, what is fixed, and every relation to the unit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from consensus.runtime.params.bounds import BOUNDS, FIXED
from consensus.runtime.params.errors import UnsoundParams
from consensus.runtime.params.protocol import RuntimeParams, apply_changes, get_param
from consensus.runtime.params.relations import validate_params
from genesis.dev import build_dev_params
from proto_specs import limits
from proto_specs.types.calls import ParamChange

PAGE = Path(__file__).parents[5] / "proto_specs" / "params.md"
FAR = 1 << 65
BEGIN = build_dev_params()


def read_section(title: str) -> str:
    """The text below a heading."""
    return PAGE.read_text("utf-8").split(f"\n## {title}\n")[1].split("\n## ")[0]


RELATIONS = re.findall(r"^\| `(\S+)` \| `(.+)` \|$", read_section("Relations"), re.MULTILINE)
"""(blamed, what holds)."""


def names_in(relation: str) -> list[str]:
    """The parameters a relation speaks of."""
    return sorted(set(re.findall(r"[a-z]+\.[a-z_]+", relation)))


def is_kept(relation: str, params: RuntimeParams) -> bool:
    """What the page says of these parameters."""
    modules: dict[str, Any] = {}
    for name in names_in(relation):
        module, field = name.split(".")
        modules.setdefault(module, SimpleNamespace()).__dict__[field] = get_param(params, name)
    return bool(eval(relation, {"__builtins__": {}, **vars(limits)}, modules))


def find_blamed(params: RuntimeParams) -> str | None:
    """What the code says of them: the parameter that is wrong."""
    try:
        validate_params(params)
    except UnsoundParams as error:
        return error.field
    return None


def set_param(params: RuntimeParams, name: str, value: int) -> RuntimeParams:
    return apply_changes(params, [ParamChange(name, value)])


def list_edges(relation: str, params: RuntimeParams, name: str) -> Iterator[int]:
    """Values of a parameter around which a relation begins or ceases to hold, nothing else changed."""
    for outside in (0, FAR):
        inside = get_param(params, name)
        if is_kept(relation, set_param(params, name, outside)):
            continue
        while abs(outside - inside) > 1:
            middle = (inside + outside) // 2
            if is_kept(relation, set_param(params, name, middle)):
                inside = middle
            else:
                outside = middle
        yield from (inside, outside)


def test_bounds_and_what_is_fixed_are_on_the_page() -> None:
    rows = re.findall(r"^\| `(\S+)` \| (\d+) \| (\d+) \|$", read_section("Bounds"), re.MULTILINE)
    assert rows == [(name, str(bound.least), str(bound.most)) for name, bound in BOUNDS.items()]
    fixed = re.findall(r"^- `(\S+)`: (.+)\.$", read_section("Fixed"), re.MULTILINE)
    assert fixed == list(FIXED.items())


def test_relations_are_on_the_page_and_each_is_kept_to_the_unit() -> None:
    broken = set()
    for blamed, relation in RELATIONS:
        assert blamed in names_in(relation)
        assert is_kept(relation, BEGIN), relation
        for name in names_in(relation):
            for value in list_edges(relation, BEGIN, name):
                params = set_param(BEGIN, name, value)
                wrong = [index for index, (_, other) in enumerate(RELATIONS) if not is_kept(other, params)]
                assert find_blamed(params) == (RELATIONS[wrong[0]][0] if wrong else None), (name, value)
                broken.update(wrong)
    assert broken == set(range(len(RELATIONS))), "a relation nothing can break"


def test_the_code_keeps_no_relation_that_is_not_on_the_page() -> None:
    """Each parameter alone, at the edges of its bounds and of what any parameter is."""
    values = {get_param(BEGIN, name) + step for name in (*BOUNDS, *FIXED) for step in (-1, 0, 1)}
    values |= {one for bound in BOUNDS.values() for one in (bound.least, bound.most, bound.most + 1)}
    for name in (*BOUNDS, *FIXED):
        for value in sorted(values):
            params = set_param(BEGIN, name, value)
            is_sound = all(is_kept(one, params) for _, one in RELATIONS if name in names_in(one))
            assert (find_blamed(params) is None) == is_sound, (name, value)
