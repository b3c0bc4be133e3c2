"""The error tree for everything that comes off a wire or a disk. Knows no caller."""

from __future__ import annotations


class ProtocolError(Exception):
    """Outside bytes broke a rule of the protocol. Never raised for a bug of ours."""


class DecodeError(ProtocolError):
    """Bytes are not the canonical encoding of the expected type."""


class SignatureError(ProtocolError):
    """A signature does not verify under the stated key."""


class AddressError(ProtocolError):
    """Text is not a valid SS58 address for this chain."""
