"""Parameters of JSON-RPC methods, parsed once at the edge. Every refusal is INVALID_PARAMS naming the parameter."""

from __future__ import annotations

import re
from collections.abc import Set
from typing import Any, NoReturn

from node.local_api.wire.errors import INVALID_PARAMS, ApiError
from proto_specs.errors import AddressError
from proto_specs.ss58 import decode_address

HASH_BYTES = 32
KEY_BYTES_MAX = 256
KEYS_MAX = 64
PAGE_ITEMS_MAX = 256
SUBMITTED_BYTES_MAX = 1 << 19
EVIDENCE_BYTES_MAX = 4_096
"""What fits into a request as hex: longer than a transaction may be, so that the refusal can say which it was."""
_HEX = re.compile(r"0x(?:[0-9a-fA-F]{2})*")


class Params:
    """Parameters of one call, by position or by name; `take_*` in the documented order, then `finish`."""

    def __init__(self, raw: list[Any] | dict[str, Any], ss58_prefix: int) -> None:
        self._by_place = raw if isinstance(raw, list) else []
        self._by_name = dict(raw) if isinstance(raw, dict) else {}
        self._prefix = ss58_prefix
        self._at = 0

    def finish(self) -> None:
        """No parameter is left over."""
        if len(self._by_place) > self._at:
            raise ApiError(INVALID_PARAMS, f"{len(self._by_place)} parameters, at most {self._at} are taken")
        if self._by_name:
            raise ApiError(INVALID_PARAMS, f"there is no parameter {min(self._by_name)!r:.80}")

    def take_optional_block(self, name: str) -> int | bytes | None:
        """A block by height or hash, or nothing."""
        return self._parse_block(self._next(name), name)

    def take_blocks(self, name: str, most: int) -> int | bytes | list[int | bytes | None] | None:
        """A block by height or hash, or nothing, or a list of at most so many."""
        value = self._next(name)
        if not isinstance(value, list):
            return self._parse_block(value, name)
        if len(value) > most:
            _refuse(name, f"one block or a list of at most {most}")
        return [self._parse_block(one, name) for one in value]

    def take_count(self, name: str, most: int) -> int:
        """A number of things, 1 to `most`."""
        value = self._next(name)
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            _refuse(name, f"a number from 1 to {most}")
        return value

    def take_optional_hash(self, name: str) -> bytes | None:
        """32 bytes as 0x hex, or nothing."""
        value = self._next(name)
        return (
            None
            if value is None
            else self._parse_bytes(value, name, "a 32-byte hash as 0x hex", HASH_BYTES, HASH_BYTES)
        )

    def _parse_block(self, value: Any, name: str) -> int | bytes | None:
        if value is None:
            return None
        if isinstance(value, str):
            return self._parse_bytes(value, name, "a block height, or a hash as 0x hex", HASH_BYTES, HASH_BYTES)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            _refuse(name, "a block height, or a hash as 0x hex")
        return value

    def take_hash(self, name: str) -> bytes:
        """32 bytes as 0x hex."""
        return self._parse_bytes(self._next(name), name, "a 32-byte hash as 0x hex", HASH_BYTES, HASH_BYTES)

    def take_key(self, name: str) -> bytes:
        """A state key or prefix as 0x hex."""
        return self._parse_key(self._next(name), name)

    def take_keys(self, name: str, most: int) -> list[bytes]:
        """State keys, 1 to `most` of them."""
        value = self._next(name)
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            _refuse(name, f"a list of 1 to {most} state keys")
        return [self._parse_key(one, name) for one in value]

    def take_optional_key(self, name: str) -> bytes | None:
        """A state key as 0x hex, or nothing."""
        value = self._next(name)
        return None if value is None else self._parse_key(value, name)

    def take_extrinsic(self, name: str) -> bytes:
        """Canonical bytes of a transaction as 0x hex."""
        return self._parse_bytes(self._next(name), name, "a transaction as 0x hex", 1, SUBMITTED_BYTES_MAX)

    def take_evidence(self, name: str) -> bytes:
        """Canonical bytes of evidence as 0x hex."""
        return self._parse_bytes(self._next(name), name, "evidence as 0x hex", 1, EVIDENCE_BYTES_MAX)

    def take_account(self, name: str) -> bytes:
        """An SS58 address of this chain, or 32 bytes as 0x hex."""
        value = self._next(name)
        if isinstance(value, str) and not value.startswith("0x"):
            try:
                return decode_address(value, self._prefix)
            except AddressError as error:
                raise ApiError(INVALID_PARAMS, f"{name}: {error}") from error
        return self._parse_bytes(value, name, "an address", HASH_BYTES, HASH_BYTES)

    def take_subject(self, name: str, words: Set[str]) -> bytes | str:
        """An address, 32 bytes as 0x hex, or one of `words`."""
        value = self._next(name)
        if isinstance(value, str) and value in words:
            return value
        if isinstance(value, str) and not value.startswith("0x"):
            try:
                return decode_address(value, self._prefix)
            except AddressError as error:
                raise ApiError(INVALID_PARAMS, f"{name}: neither an event's name nor an address: {error}") from error
        return self._parse_bytes(
            value, name, "an address, 32 bytes as 0x hex or an event's name", HASH_BYTES, HASH_BYTES
        )

    def take_optional_names(self, name: str, words: Set[str]) -> frozenset[str] | None:
        """Some of `words`, or nothing."""
        value = self._next(name)
        if value is None:
            return None
        if not isinstance(value, list) or not value or not all(isinstance(one, str) and one in words for one in value):
            _refuse(name, "a list of names of events")
        return frozenset(value)

    def take_optional_height(self, name: str) -> int | None:
        """A height, or nothing."""
        value = self._next(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            _refuse(name, "a block height")
        return value

    def _parse_key(self, value: Any, name: str) -> bytes:
        return self._parse_bytes(value, name, f"up to {KEY_BYTES_MAX} bytes as 0x hex", 0, KEY_BYTES_MAX)

    def _parse_bytes(self, value: Any, name: str, wanted: str, least: int, most: int) -> bytes:
        if not isinstance(value, str) or not _HEX.fullmatch(value) or len(value) > 2 + 2 * most:
            _refuse(name, wanted)
        data = bytes.fromhex(value[2:])
        if len(data) < least:
            _refuse(name, wanted)
        return data

    def _next(self, name: str) -> Any:
        self._at += 1
        if self._at <= len(self._by_place):
            return self._by_place[self._at - 1]
        return self._by_name.pop(name, None)


def _refuse(name: str, wanted: str) -> NoReturn:
    raise ApiError(INVALID_PARAMS, f"{name} has to be {wanted}")
