"""Changes typed values so that they still encode: numbers at their limits, others' ids, lists too long or empty."""

from __future__ import annotations

import dataclasses
import random
import typing
from collections.abc import Callable, Sequence
from typing import Any

from proto_specs.codec import Fixed, Int, UInt
from proto_specs.types.common import NMYL_PER_MYL
from tests.property.proto_specs.shapes import get_fields, get_members, make_smallest, split

NUMBERS = (0, 1, 2, 127, 128, 255, 256, 999, 1_000, 65_535, 65_536, 999_999, 1_000_000, 10**9, 1 << 31, 1 << 32)
AMOUNTS = (50 * NMYL_PER_MYL, 1_000 * NMYL_PER_MYL, 10**15, 1 << 62, (1 << 63) - 1, 1 << 63, (1 << 64) - 2)


class Changer:
    """Mutations that know the declared types. `ids` are byte strings that mean something on the chain at hand."""

    def __init__(self, rng: random.Random, ids: Sequence[bytes]) -> None:
        self._rng = rng
        self._ids = ids

    def change(self, value: Any, as_type: Any) -> Any:
        """The value with one place in it changed."""
        base, mark = split(as_type)
        members = get_members(base)
        if members is not None:
            return self._change_union(value, members)
        if dataclasses.is_dataclass(base):
            fields = get_fields(base)
            if not fields:
                return value
            name, hint = self._rng.choice(fields)
            return dataclasses.replace(value, **{name: self.change(getattr(value, name), hint)})
        if typing.get_origin(base) is tuple:
            return self._change_list(value, typing.get_args(base)[0], mark.length)
        return self._make_scalar(base, mark, value)

    def make(self, as_type: Any) -> Any:
        """A value of a type, small."""
        base, mark = split(as_type)
        members = get_members(base)
        if members is not None:
            return self._make_member(members)
        if dataclasses.is_dataclass(base):
            build: Callable[..., Any] = typing.cast(Any, base)
            return build(*[self.make(hint) for _, hint in get_fields(base)])
        if typing.get_origin(base) is tuple:
            item = typing.get_args(base)[0]
            return tuple(self.make(item) for _ in range(min(self._rng.choice((0, 1, 1, 2)), mark.length)))
        return self._make_scalar(base, mark, make_smallest(as_type))

    def _change_union(self, value: Any, members: tuple[Any, ...]) -> Any:
        if value is None or self._rng.random() < 0.1:
            return self._make_member(members)
        (member,) = [one for one in members if split(one)[0] is type(value)] or [members[0]]
        return self.change(value, member)

    def _make_member(self, members: tuple[Any, ...]) -> Any:
        chosen = self._rng.choice(members)
        return None if chosen is type(None) else self.make(chosen)

    def _change_list(self, value: tuple[Any, ...], item: Any, most: int) -> tuple[Any, ...]:
        rng, items = self._rng, list(value)
        match rng.randrange(6):
            case 0 if items:
                del items[rng.randrange(len(items))]
            case 1 if items:
                items.insert(rng.randrange(len(items) + 1), rng.choice(items))
            case 2 if items:
                items.reverse()
            case 3:
                items.append(self.make(item))
            case 4 if items and rng.random() < 0.2:
                items = [rng.choice(items)] * min(most, rng.choice((len(items), 65, 300)))
            case _ if items:
                at = rng.randrange(len(items))
                items[at] = self.change(items[at], item)
        return tuple(items[:most])

    def _make_scalar(self, base: Any, mark: Any, value: Any) -> Any:
        rng = self._rng
        if base is bool:
            return not value
        if isinstance(mark, UInt):
            top = (1 << mark.bits) - 1
            near = (value - 1, value + 1, value * 2, value // 2, top - value, top)
            return min(max(rng.choice((*near, *NUMBERS, *AMOUNTS)), 0), top)
        if isinstance(mark, Int):
            top = 1 << (mark.bits - 1)
            return min(max(rng.choice((-value, value - 1, value * 2, -top, top - 1)), -top), top - 1)
        if isinstance(mark, Fixed):
            fitting = [one for one in self._ids if len(one) == mark.length]
            if fitting and rng.random() < 0.7:
                return rng.choice(fitting)
            return rng.choice(
                (bytes(mark.length), b"\xff" * mark.length, rng.randbytes(mark.length), _flip(rng, value))
            )
        length = rng.choice((0, 1, len(value), min(mark.length, 300), mark.length if rng.random() < 0.02 else 1))
        if base is str:
            return "".join(rng.choice("a/é4.\0") for _ in range(length)).encode()[: mark.length].decode(errors="ignore")
        return rng.choice((rng.randbytes(length), _flip(rng, value)))


def _flip(rng: random.Random, value: bytes) -> bytes:
    if not value:
        return value
    at = rng.randrange(len(value))
    return value[:at] + bytes([value[at] ^ 1 << rng.randrange(8)]) + value[at + 1 :]
