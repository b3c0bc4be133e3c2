"""Parameters of JSON-RPC methods, parsed once at the edge. Every refusal is INVALID_PARAMS naming the parameter."""

from __future__ import annotations

from typing import Any, NoReturn

from node.api.errors import INVALID_PARAMS, ApiError
from proto_specs.errors import AddressError
from proto_specs.limits import EXTRINSIC_BYTES_MAX
from proto_specs.ss58 import decode_address

HASH_BYTES = 32
KEY_BYTES_MAX = 256


class Params:
    """Positional parameters of one call; `take_*` in order, then `finish`."""

    def __init__(self, raw: list[Any], ss58_prefix: int) -> None:
        self._raw = raw
        self._prefix = ss58_prefix
        self._at = 0

    def finish(self) -> None:
        """No parameter is left over."""
        if len(self._raw) > self._at:
            raise ApiError(INVALID_PARAMS, f"{len(self._raw)} parameters, at most {self._at} are taken")

    def take_optional_height(self, name: str) -> int | None:
        """A block height, or nothing."""
        value = self._next()
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 63:
            _refuse(name, "a block height")
        return value

    def take_hash(self, name: str) -> bytes:
        """32 bytes as 0x hex."""
        return self._take_bytes(name, "a 32-byte hash as 0x hex", HASH_BYTES, HASH_BYTES)

    def take_optional_hash(self, name: str) -> bytes | None:
        """32 bytes as 0x hex, or nothing."""
        if self._peek() is None:
            self._at += 1
            return None
        return self.take_hash(name)

    def take_key(self, name: str) -> bytes:
        """A state key or prefix as 0x hex."""
        return self._take_bytes(name, f"up to {KEY_BYTES_MAX} bytes as 0x hex", 0, KEY_BYTES_MAX)

    def take_optional_key(self, name: str) -> bytes | None:
        """A state key as 0x hex, or nothing."""
        if self._peek() is None:
            self._at += 1
            return None
        return self.take_key(name)

    def take_extrinsic(self, name: str) -> bytes:
        """Canonical bytes of a transaction as 0x hex."""
        return self._take_bytes(name, "a transaction as 0x hex", 1, EXTRINSIC_BYTES_MAX)

    def take_account(self, name: str) -> bytes:
        """An SS58 address of this chain, or 32 bytes as 0x hex."""
        value = self._peek()
        if isinstance(value, str) and not value.startswith("0x"):
            self._at += 1
            try:
                return decode_address(value, self._prefix)
            except AddressError as error:
                raise ApiError(INVALID_PARAMS, f"{name}: {error}") from error
        return self._take_bytes(name, "an address", HASH_BYTES, HASH_BYTES)

    def _take_bytes(self, name: str, wanted: str, least: int, most: int) -> bytes:
        value = self._next()
        if not isinstance(value, str) or not value.startswith("0x") or len(value) > 2 + 2 * most:
            _refuse(name, wanted)
        try:
            data = bytes.fromhex(value[2:])
        except ValueError:
            _refuse(name, wanted)
        if not least <= len(data) <= most:
            _refuse(name, wanted)
        return data

    def _peek(self) -> Any:
        return self._raw[self._at] if self._at < len(self._raw) else None

    def _next(self) -> Any:
        value = self._peek()
        self._at += 1
        return value


def _refuse(name: str, wanted: str) -> NoReturn:
    raise ApiError(INVALID_PARAMS, f"{name} has to be {wanted}")
