"""Multiaddr text in and out: what may be dialed, and how our own addresses are written."""

from __future__ import annotations

from multiaddr import Multiaddr
from multiaddr.exceptions import BinaryParseError, ParseError, ProtocolLookupError, StringParseError

from node.p2p.errors import AddressInvalid
from node.p2p.identity import decode_peer_id


def decode_address(address_or_peer: str) -> tuple[Multiaddr | None, str]:
    """Split `/ip4/../tcp/../p2p/ID` or a bare peer id into (address to dial or None, peer id text).

    Raises AddressInvalid when it is neither, or when the address has no TCP port or no peer id.
    """
    if not address_or_peer.startswith("/"):
        return None, decode_peer_id(address_or_peer).to_base58()
    address = decode_multiaddr(address_or_peer)
    try:
        address.value_for_protocol("tcp")
        peer_id = address.value_for_protocol("p2p")
    except ProtocolLookupError as error:
        raise AddressInvalid(f"address needs /tcp and /p2p: {address_or_peer}") from error
    if peer_id is None:
        raise AddressInvalid(f"address has an empty /p2p: {address_or_peer}")
    return address, decode_peer_id(peer_id).to_base58()


def decode_multiaddr(text: str) -> Multiaddr:
    """Parse a multiaddr. Raises AddressInvalid."""
    try:
        return Multiaddr(text)
    except (StringParseError, BinaryParseError, ParseError, ProtocolLookupError, ValueError) as error:
        raise AddressInvalid(f"not a multiaddr: {text!r}") from error


def encode_address(address: Multiaddr, peer_id: str) -> str:
    """Write a listening address with the peer id appended."""
    return f"{address}/p2p/{peer_id}"
