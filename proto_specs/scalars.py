"""Single values in canonical MessagePack: booleans, integers, bytes and text, each in its shortest form alone.

Every `make_*` gives a (pack, parse) pair: value -> plain value for msgpack; (bytes, position) -> (value, position after
it). Both raise DecodeError for what is out of its bound.
"""

from __future__ import annotations

from typing import Any

from proto_specs.codegen import Pack, Parse
from proto_specs.errors import DecodeError

# First byte -> (bytes of the number that follows, the least number allowed in this form). When no bytes follow, the
# first byte holds the number itself.
Heads = dict[int, tuple[int, int]]
UINT_HEADS: Heads = {
    **{number: (0, number) for number in range(1 << 7)},
    **{0xCC: (1, 1 << 7), 0xCD: (2, 1 << 8), 0xCE: (4, 1 << 16), 0xCF: (8, 1 << 32)},
}
_BYTES_HEADS: Heads = {0xC4: (1, 0), 0xC5: (2, 1 << 8), 0xC6: (4, 1 << 16)}
_TEXT_HEADS: Heads = {
    **{0xA0 + length: (0, length) for length in range(1 << 5)},
    **{0xD9: (1, 1 << 5), 0xDA: (2, 1 << 8), 0xDB: (4, 1 << 16)},
}
LIST_HEADS: Heads = {
    **{0x90 + count: (0, count) for count in range(1 << 4)},
    **{0xDC: (2, 1 << 4), 0xDD: (4, 1 << 16)},
}
NIL, _FALSE, _TRUE = 0xC0, 0xC2, 0xC3
_NEGATIVE_FIX = 0xE0
"""Bytes from here on are -32 to -1."""
_NEGATIVE_HEADS: Heads = {
    0xD0: (1, -(1 << 5)),
    0xD1: (2, -(1 << 7)),
    0xD2: (4, -(1 << 15)),
    0xD3: (8, -(1 << 31)),
}
"""First byte -> (bytes of the signed number that follows, the bound it is below in this form)."""


def parse_head(data: bytes, at: int, heads: Heads, what: str) -> tuple[int, int]:
    """The number in or behind the byte at `at`: an integer's value, or a length."""
    found = heads.get(data[at])
    if found is None:
        raise DecodeError(f"expected {what} at byte {at}, got 0x{data[at]:02x}")
    size, least = found
    if not size:
        return least, at + 1
    end = at + 1 + size
    if end > len(data):
        raise DecodeError(f"ends early, after {len(data)} bytes")
    number = int.from_bytes(data[at + 1 : end], "big")
    if number < least:
        raise DecodeError(f"{number} at byte {at} is not in its shortest form")
    return number, end


def pack_bool(value: Any) -> bool:
    """A boolean as msgpack takes it: nothing that only counts as one."""
    if value is not True and value is not False:
        raise DecodeError(f"expected a boolean, got {type(value).__name__}")
    return value


def parse_bool(data: bytes, at: int) -> tuple[bool, int]:
    """(boolean, position after it)."""
    if data[at] not in (_FALSE, _TRUE):
        raise DecodeError(f"expected a boolean at byte {at}, got 0x{data[at]:02x}")
    return data[at] == _TRUE, at + 1


def make_uint_codec(bits: int) -> tuple[Pack, Parse]:
    """Unsigned integers of at most `bits` bits."""
    top = 1 << bits

    def pack(value: Any) -> int:
        """Members of an IntEnum are encoded as their number and decoded as plain integers."""
        if not isinstance(value, int) or isinstance(value, bool):
            raise DecodeError(f"expected an unsigned {bits}-bit integer, got {type(value).__name__}")
        if not 0 <= value < top:
            raise DecodeError(f"{int(value)} is no unsigned {bits}-bit integer")
        return int(value)

    def parse(data: bytes, at: int) -> tuple[int, int]:
        number, end = parse_head(data, at, UINT_HEADS, "an unsigned integer")
        if number >= top:
            raise DecodeError(f"{number} at byte {at} is no unsigned {bits}-bit integer")
        return number, end

    return pack, parse


def make_int_codec(bits: int) -> tuple[Pack, Parse]:
    """Signed integers; those that are not negative are encoded as unsigned ones are."""
    top = 1 << (bits - 1)

    def check(value: int, where: str) -> int:
        if not -top <= value < top:
            raise DecodeError(f"{value}{where} is no signed {bits}-bit integer")
        return value

    def pack(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise DecodeError(f"expected a signed {bits}-bit integer, got {type(value).__name__}")
        return check(int(value), "")

    def parse(data: bytes, at: int) -> tuple[int, int]:
        head = data[at]
        if head >= _NEGATIVE_FIX:
            return check(head - 0x100, f" at byte {at}"), at + 1
        negative = _NEGATIVE_HEADS.get(head)
        if negative is None:
            number, end = parse_head(data, at, UINT_HEADS, "an integer")
            return check(number, f" at byte {at}"), end
        size, bound = negative
        end = at + 1 + size
        number = int.from_bytes(_slice(data, at + 1, end), "big", signed=True)
        if number >= bound:
            raise DecodeError(f"{number} at byte {at} is not in its shortest form")
        return check(number, f" at byte {at}"), end

    return pack, parse


def make_bytes_codec(most: int, *, exact: bool) -> tuple[Pack, Parse]:
    """Byte strings of at most, or `exact`ly, `most` bytes."""
    wanted = f"{'' if exact else 'at most '}{most} bytes"

    def check(length: int) -> None:
        if length > most or (exact and length != most):
            raise DecodeError(f"expected {wanted}, got {length}")

    def pack(value: Any) -> bytes:
        if type(value) is not bytes:
            raise DecodeError(f"expected bytes, got {type(value).__name__}")
        check(len(value))
        return value

    def parse(data: bytes, at: int) -> tuple[bytes, int]:
        length, start = parse_head(data, at, _BYTES_HEADS, wanted)
        check(length)
        return _slice(data, start, start + length), start + length

    return pack, parse


def make_text_codec(most: int) -> tuple[Pack, Parse]:
    """Text of at most `most` bytes in UTF-8."""

    def check(length: int) -> None:
        if length > most:
            raise DecodeError(f"expected at most {most} bytes of text, got {length}")

    def pack(value: Any) -> str:
        if type(value) is not str:
            raise DecodeError(f"expected text, got {type(value).__name__}")
        try:
            check(len(value.encode()))
        except UnicodeEncodeError as error:
            raise DecodeError(f"text has no UTF-8 form: {error}") from error
        return value

    def parse(data: bytes, at: int) -> tuple[str, int]:
        length, start = parse_head(data, at, _TEXT_HEADS, "text")
        check(length)
        try:
            return _slice(data, start, start + length).decode(), start + length
        except UnicodeDecodeError as error:
            raise DecodeError(f"text at byte {at} is not UTF-8: {error.reason}") from error

    return pack, parse


def _slice(data: bytes, start: int, end: int) -> bytes:
    if end > len(data):
        raise DecodeError(f"ends early, after {len(data)} bytes")
    return data[start:end]
