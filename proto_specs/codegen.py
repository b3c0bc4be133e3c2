"""Generates the source of a record's pack and parse functions, its plain fields inlined. Knows no MessagePack library.

Why generated: a block of 2,000 transfers packs and parses some 200,000 fields, and a Python call for each field was
half the time of executing it. The generated code handles a field's common case by a comparison; every other case goes
to the field's own function, which alone knows the rule and makes the error.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Pack = Callable[[Any], Any]
Parse = Callable[[bytes, int], tuple[Any, int]]


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its functions, and the facts to inline: an integer below `top`, or exactly `length` bytes."""

    name: str
    pack: Pack
    parse: Parse
    top: int | None = None
    length: int | None = None


def build_pack(cls: type, fields: Sequence[Field], tag: int | None) -> Pack:
    """value -> list of its packed fields, after `tag` if there is one. Raises TypeError for another class."""
    lines = ["def pack(value):", "    if type(value) is not cls:", "        raise_wrong_class(cls, value)"]
    for at, one in enumerate(fields):
        if one.top is not None:
            lines.append(f"    v{at} = value.{one.name}")
            lines.append(f"    if type(v{at}) is not int or not 0 <= v{at} < {one.top}:")
            lines.append(f"        v{at} = pack{at}(v{at})")
        elif one.length is not None:
            lines.append(f"    v{at} = value.{one.name}")
            lines.append(f"    if type(v{at}) is not bytes or len(v{at}) != {one.length}:")
            lines.append(f"        v{at} = pack{at}(v{at})")
        else:
            lines.append(f"    v{at} = pack{at}(value.{one.name})")
    items = ([] if tag is None else [str(tag)]) + [f"v{at}" for at in range(len(fields))]
    lines.append(f"    return [{', '.join(items)}]")
    names = {f"pack{at}": one.pack for at, one in enumerate(fields)}
    made: Pack = _compile("pack", lines, {"cls": cls, "raise_wrong_class": _raise_wrong_class, **names})
    return made


def build_parse(cls: type, fields: Sequence[Field]) -> Parse:
    """(data, position of the first field) -> (value, position after the last)."""
    lines = ["def parse(data, at):"]
    for at, one in enumerate(fields):
        if one.top is not None:
            lines.append(f"    v{at} = data[at]")
            lines.append(f"    if v{at} < 0x80:")
            lines.append("        at += 1")
            lines.append("    else:")
            lines.append(f"        v{at}, at = parse{at}(data, at)")
        elif one.length is not None and one.length < 0x100:
            head = repr(bytes([0xC4, one.length]))
            lines.append(f"    v{at} = data[at + 2:at + {one.length + 2}]")
            lines.append(f"    if len(v{at}) == {one.length} and data[at:at + 2] == {head}:")
            lines.append(f"        at += {one.length + 2}")
            lines.append("    else:")
            lines.append(f"        v{at}, at = parse{at}(data, at)")
        else:
            lines.append(f"    v{at}, at = parse{at}(data, at)")
    lines.append(f"    return cls({', '.join(f'v{at}' for at in range(len(fields)))}), at")
    names = {f"parse{at}": one.parse for at, one in enumerate(fields)}
    made: Parse = _compile("parse", lines, {"cls": cls, **names})
    return made


def _raise_wrong_class(cls: type, value: Any) -> None:
    raise TypeError(f"expected {cls.__name__}, got {type(value).__name__}")


def _compile(name: str, lines: Sequence[str], names: dict[str, Any]) -> Any:
    """Compile the function. Field names are identifiers of our own classes: nothing in the source is from outside."""
    scope = dict(names)
    code = compile("\n".join(lines), f"<{name} of {names['cls'].__name__}>", "exec")
    exec(code, scope)  # noqa: S102
    return scope[name]
