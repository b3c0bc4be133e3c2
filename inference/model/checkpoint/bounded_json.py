"""Parses a JSON object of a checkpoint within bounds of memory, time and depth. Knows none of its fields."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

from inference.errors import ModelFormatError

JSON_BYTES_MAX = 32 << 20
"""The index of a model with 92000 tensors takes 9 MiB."""
JSON_MARKS_MAX = 1 << 21
"""Brackets, colons and commas: each value comes with one, and takes up to a hundred bytes as a Python object."""
JSON_DEPTH_MAX = 16
_INTEGER_DIGITS_MAX = 20  # of 64 bits, with a sign
_Object = dict[str, object]


def parse_object(data: bytes, what: str) -> _Object:
    """The object, with every key once and finite numbers. Raises ModelFormatError, naming `what`, for anything else."""
    try:
        if len(data) > JSON_BYTES_MAX or sum(map(data.count, (b"{", b"[", b":", b","))) > JSON_MARKS_MAX:
            raise ValueError("it is larger than any model's")
        value = json.loads(
            data.decode(),
            object_pairs_hook=_make_object,
            parse_int=_parse_integer,
            parse_float=_parse_decimal,
            parse_constant=_parse_decimal,
        )
        if not isinstance(value, dict):
            raise ValueError("it is no object")
        _check_depth(value)
        if b"\\u" in data:  # half of a surrogate pair is text that nothing can encode
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        finding = str(error).splitlines()[0][:200] if str(error) else "nested too deep"
        raise ModelFormatError(f"{what} cannot be read ({finding}): it is damaged, fetch it again") from error
    return value


def _make_object(pairs: Iterable[tuple[str, object]]) -> _Object:
    made: _Object = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"{key[:80]!r} is there twice")
        made[key] = value
    return made


def _parse_integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS_MAX:
        raise ValueError("a number has more than 64 bits")
    return int(text)


def _parse_decimal(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"a number is {value}")
    return value


def _check_depth(value: _Object) -> None:
    level: list[object] = [value]
    for _ in range(JSON_DEPTH_MAX):
        below: list[object] = []
        for one in level:
            children: Iterable[object] = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
            below.extend(child for child in children if isinstance(child, (dict, list)))
        if not below:
            return
        level = below
    raise ValueError("nested too deep")
