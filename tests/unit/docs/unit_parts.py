"""Tables of units.md that code gives: the parts of each unit, their shapes, the settings. Prints them when run."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from inference.model.families.family import Decoder, Family
from inference.model.families.registry import list_families
from inference.model.layout import Part
from proto_specs.types.manifest import UnitKind

# Sizes that no product or sum of others equals, so that a shape says which it is made of.
_SIZES = {
    "hidden": 1009,
    "vocab": 7919,
    "heads": 12,
    "kv_heads": 4,
    "head_dim": 1013,
    "ffn": 1019,
    "experts": 211,
    "expert_ffn": 1021,
    "shared_ffn": 1031,
    "kv_rank": 1033,
    "q_rank": 1039,
    "nope_dims": 1049,
    "rope_dims": 1051,
    "value_dims": 1061,
}
_PRODUCTS = {
    "heads x head_dim": 12 * 1013,
    "kv_heads x head_dim": 4 * 1013,
    "heads x (nope_dims + rope_dims)": 12 * (1049 + 1051),
    "heads x value_dims": 12 * 1061,
}
_NAMES = {value: name for name, value in (_SIZES | _PRODUCTS).items()}
_CORE = ("layers", "hidden", "vocab", "context_max")
_KINDS = {"int": "integer", "bool": "true or false", "str": "text"}

Settings = dict[str, Any]


def make_parts_table() -> list[str]:
    """Lines of the table of parts: a part's role and shape, wherever it is."""
    rows = dict.fromkeys(
        f"| `{part.name}` | {part.role.name} | [{', '.join(_NAMES[one] for one in part.shape)}] |"
        for family in list_families()
        for _, parts in _list_units(family)
        for part in parts
    )
    return ["| part | role | shape |", "|---|---|---|", *rows]


def make_units_table() -> list[str]:
    """Lines of the table of units: their parts in order, `+` between those that are joined. Equals share a line."""
    rows: dict[str, list[str]] = {}
    for family in list_families():
        for words, parts in _list_units(family):
            rows.setdefault(_show_parts(parts), []).append(words)
    count = len(list_families())
    lines = [
        f"| {who[0] if len(set(who)) == 1 and len(who) == count else ', '.join(who)} | {parts} |"
        for parts, who in rows.items()
    ]
    return ["| unit | parts, in order |", "|---|---|", *lines]


def make_settings_table() -> list[str]:
    """Lines of the table of settings: the families that have it, its kind, its default."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for family in list_families():
        for one in dataclasses.fields(family.decoder):
            if one.name not in _CORE:
                found.setdefault((one.name, _KINDS[str(one.type)], _show_default(one.default)), []).append(family.name)
    count = len(list_families())
    lines = ["| setting | text | left out | families |", "|---|---|---|---|"]
    for (name, kind, default), families in found.items():
        who = "all" if len(families) == count else ", ".join(families)
        lines.append(f"| `{name}` | {kind} | {default} | {who} |")
    return lines


def _list_units(family: Family) -> Iterator[tuple[str, tuple[Part, ...]]]:
    """Every unit a family can have, in words, and its parts."""
    for words, kind, tied in (("EMBED", UnitKind.EMBED, True), ("HEAD, tied", UnitKind.HEAD, True)):
        yield words, family.list_parts(_make_decoder(family, {"tied_embeddings": tied}), kind, 0)
    yield "HEAD", family.list_parts(_make_decoder(family, {"tied_embeddings": False}), UnitKind.HEAD, 0)
    for words, settings in _list_variants(family):
        yield f"{family.name}{words}", family.list_parts(_make_decoder(family, settings), UnitKind.LAYER, 0)


def _list_variants(family: Family) -> Iterator[tuple[str, Settings]]:
    """Kinds of layers of a family: words, and the settings that make them."""
    names = {one.name for one in dataclasses.fields(family.decoder)}
    if "experts" not in names:
        yield "", {}
        return
    ranks: list[tuple[str, Settings]] = [("", {}), (", `q_rank` 0", {"q_rank": 0})] if "q_rank" in names else [("", {})]
    biases: list[tuple[str, Settings]] = [("", {})]
    if "is_biased" in names:
        biases = [(", biased", {"is_biased": True}), ("", {"is_biased": False})]
    for of_queries, rank in ranks:
        yield f" dense{of_queries}", {"dense_layers": 1, **rank}
        for of_bias, bias in biases:
            yield f" sparse{of_queries}{of_bias}", {"dense_layers": 0, **rank, **bias}


def _make_decoder(family: Family, more: Settings) -> Decoder:
    fields = {one.name for one in dataclasses.fields(family.decoder)}
    settings: Settings = {"layers": 1, "context_max": 64, "rope_theta": "1", "norm_epsilon": "1"}
    settings |= {"tied_embeddings": True} | {name: size for name, size in _SIZES.items() if name in fields}
    return family.decoder(**(settings | more))


def _show_parts(parts: tuple[Part, ...]) -> str:
    shown = f"`{parts[0].name}`"
    for before, part in pairwise(parts):
        is_joined = part.joined and before.joined == part.joined
        shown += f"{' + ' if is_joined else ', '}`{part.name}`"
    return shown


def _show_default(default: object) -> str:
    if default is dataclasses.MISSING:
        return "never"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"`{default}`" if default != "" else "none"


if __name__ == "__main__":
    for table in (make_units_table(), make_parts_table(), make_settings_table()):
        print(*table, "", sep="\n")
