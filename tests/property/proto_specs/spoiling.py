"""Encodings that mean almost the same: one value written longer, or another kind of value in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgpack

INTRUDERS: dict[str, bytes] = {
    "empty map": b"\x80",
    "map": b"\x81\x01\x02",
    "map16": b"\xde\x00\x00",
    "float32": b"\xca\x00\x00\x00\x00",
    "float64": b"\xcb" + bytes(8),
    "fixext1": b"\xd4\x01\x00",
    "timestamp": b"\xd6\xff\x00\x00\x00\x00",
    "empty ext8": b"\xc7\x00\x01",
    "never used": b"\xc1",
    "int8": b"\xd0\xff",
    "int64": b"\xd3" + b"\xff" * 8,
}
"""Nothing of this stands in any record of the protocol."""

NEGATIVE: dict[str, bytes] = {
    "minus one": b"\xff",
    "minus 32": b"\xe0",
    "minus 33": b"\xd0\xdf",
    "minus 2^15": b"\xd1\x80\x00",
    "minus 2^31": b"\xd2\x80\x00\x00\x00",
    "minus 2^63": b"\xd3\x80" + bytes(7),
}
"""Numbers in their shortest form that only signed fields may hold."""

MISPLACED: dict[str, bytes] = {
    "nil": b"\xc0",
    "true": b"\xc3",
    "zero": b"\x00",
    "u64": b"\xcf" + b"\xff" * 8,
    "no bytes": b"\xc4\x00",
    "one byte": b"\xc4\x01\x00",
    "no text": b"\xa0",
    "text": b"\xa1a",
    "empty list": b"\x90",
    "list of lists": b"\x91\x91\x90",
}
"""What stands in some places and must not be taken in others."""


def pack(tree: Any) -> bytes:
    """Canonical bytes of plain values, by the library and not by our codec."""
    packed: bytes = msgpack.packb(tree, use_bin_type=True)
    return packed


def unpack(data: bytes) -> Any:
    """Plain values of valid MessagePack."""
    return msgpack.unpackb(data, raw=False)


def spoil_each(tree: Any, spoil: Callable[[Any], Iterator[bytes]]) -> Iterator[bytes]:
    """Encodings of `tree` in which one value, each in turn, is written as `spoil` says."""
    yield from spoil(tree)
    if isinstance(tree, list):
        for index, child in enumerate(tree):
            before = _head(tree) + b"".join(map(pack, tree[:index]))
            after = b"".join(map(pack, tree[index + 1 :]))
            for spoiled in spoil_each(child, spoil):
                yield before + spoiled + after


def write_longer(value: Any) -> Iterator[bytes]:
    """Valid MessagePack for the same value, but not the shortest."""
    match value:
        case bool() | None:
            return
        case int() if value < 0:
            for head, size in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
                if size + 1 > len(pack(value)):
                    yield bytes([head]) + value.to_bytes(size, "big", signed=True)
        case int():
            yield from _longer_heads(pack(value), value, (0xCC, 0xCD, 0xCE, 0xCF))
            for head, size in ((0xD0, 1), (0xD1, 2), (0xD2, 4), (0xD3, 8)):
                if value < 1 << (8 * size - 1):
                    yield bytes([head]) + value.to_bytes(size, "big")
        case bytes():
            for head in _longer_heads(_head(value), len(value), (0xC4, 0xC5, 0xC6)):
                yield head + value
        case str():
            text = value.encode()
            for head in _longer_heads(_head(value), len(text), (0xD9, 0xDA, 0xDB)):
                yield head + text
        case list():
            for head in _longer_heads(_head(value), len(value), (0xDC, 0xDD)):
                yield head + b"".join(map(pack, value))


def replace_by(data: bytes) -> Callable[[Any], Iterator[bytes]]:
    """A `spoil` that puts `data` in the place of each value."""
    return lambda _: iter((data,))


def _head(value: Any) -> bytes:
    whole = pack(value)
    body = sum(len(pack(one)) for one in value) if isinstance(value, list) else len(_raw(value))
    return whole[: len(whole) - body]


def _raw(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _longer_heads(shortest: bytes, number: int, heads: tuple[int, ...]) -> Iterator[bytes]:
    for head in heads:
        size = {0xCC: 1, 0xCD: 2, 0xCE: 4, 0xCF: 8, 0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}.get(head)
        size = size or {0xDC: 2, 0xDD: 4}[head]
        if size + 1 > len(shortest):
            yield bytes([head]) + number.to_bytes(size, "big")
