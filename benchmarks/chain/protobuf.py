"""The part of the protobuf wire format that a Cosmos bank send needs: varints, length-delimited fields. Writes only."""

from __future__ import annotations


def encode_varint(value: int) -> bytes:
    """A base-128 varint, least significant group first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def field(number: int, value: int | str | bytes) -> bytes:
    """An encoded field; a zero or empty value is left out, as in proto3."""
    if not value:
        return b""
    if isinstance(value, int):
        return encode_varint(number << 3) + encode_varint(value)
    data = value.encode() if isinstance(value, str) else value
    return encode_varint(number << 3 | 2) + encode_varint(len(data)) + data


def encode_any(type_url: str, value: bytes) -> bytes:
    """An encoded google.protobuf.Any."""
    return field(1, type_url) + field(2, value)
