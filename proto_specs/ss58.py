"""SS58 text form of 32-byte account keys (Substrate's address format, two-byte checksum). Pure text, no chain state."""

from __future__ import annotations

import hashlib

from proto_specs.errors import AddressError

_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUES = {char: value for value, char in enumerate(_ALPHABET)}
_CHECKSUM_BYTES = 2
_TEXT_MAX = 64


def encode_address(account: bytes, prefix: int) -> str:
    """Address text of a 32-byte account under the chain's prefix (0..16383)."""
    assert len(account) == 32, "accounts are 32-byte public keys"
    body = _encode_prefix(prefix) + account
    return _encode_base58(body + _checksum(body))


def decode_address(text: str, prefix: int) -> bytes:
    """The 32-byte account of an address. Raises AddressError naming what is wrong with it."""
    if len(text) > _TEXT_MAX:
        raise AddressError(f"address is {len(text)} characters long")
    data = _decode_base58(text)
    head = data[: 2 if data and data[0] & 0b0100_0000 else 1]
    if len(data) != len(head) + 32 + _CHECKSUM_BYTES:
        raise AddressError(f"address {text!r} has the wrong length")
    body, checksum = data[:-_CHECKSUM_BYTES], data[-_CHECKSUM_BYTES:]
    if _checksum(body) != checksum:
        raise AddressError(f"address {text!r} has a typing error (checksum)")
    if head != _encode_prefix(prefix):
        raise AddressError(f"address {text!r} belongs to another chain (this chain's prefix is {prefix})")
    return body[len(head) :]


def _encode_prefix(prefix: int) -> bytes:
    assert 0 <= prefix < 1 << 14, "SS58 prefixes have 14 bits"
    if prefix < 64:
        return bytes([prefix])
    return bytes([((prefix & 0b1111_1100) >> 2) | 0b0100_0000, (prefix >> 8) | ((prefix & 0b11) << 6)])


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(b"SS58PRE" + body).digest()[:_CHECKSUM_BYTES]


def _encode_base58(data: bytes) -> str:
    number = int.from_bytes(data, "big")
    digits: list[str] = []
    while number:
        number, rest = divmod(number, 58)
        digits.append(_ALPHABET[rest])
    zeros = len(data) - len(data.lstrip(b"\0"))
    return _ALPHABET[0] * zeros + "".join(reversed(digits))


def _decode_base58(text: str) -> bytes:
    number = 0
    for char in text:
        if char not in _VALUES:
            raise AddressError(f"address {text!r} holds {char!r}, which is not base58")
        number = number * 58 + _VALUES[char]
    zeros = len(text) - len(text.lstrip(_ALPHABET[0]))
    return b"\0" * zeros + number.to_bytes((number.bit_length() + 7) // 8, "big")
