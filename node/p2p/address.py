"""Multiaddr text in and out: which addresses may be dialed, and how this node writes its own."""

from __future__ import annotations

from multiaddr import Multiaddr
from multiaddr.exceptions import BinaryParseError, ParseError, ProtocolLookupError, StringParseError

from node.p2p.errors import AddressInvalid
from node.p2p.identity import decode_peer_id

CIRCUIT = "p2p-circuit"


def decode_address(address_or_peer: str) -> tuple[Multiaddr | None, str]:
    """Split `/ip4/../tcp/../p2p/ID` or a bare peer id into (address to dial or None, peer id text).

    Also `/ip4/../tcp/../p2p/RELAY/p2p-circuit/p2p/ID`: ID through a relay. Raises AddressInvalid for any other form,
    and when the address has no TCP port or no peer id.
    """
    if not address_or_peer.startswith("/"):
        return None, decode_peer_id(address_or_peer).to_base58()
    address = decode_multiaddr(address_or_peer)
    try:
        address.value_for_protocol("tcp")
        peer_id = address.value_for_protocol("p2p")
        if is_circuit(address):
            peer_id = split_circuit(address_or_peer)[1]
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


def is_circuit(address: Multiaddr) -> bool:
    """Whether the address leads through a relay."""
    return f"/{CIRCUIT}" in str(address)


def split_circuit(address: str) -> tuple[str, str]:
    """The relay's address and the peer behind it, who is another. Raises AddressInvalid."""
    relay, separator, behind = address.partition(f"/{CIRCUIT}/p2p/")
    if not separator or not relay.count("/p2p/") == 1 or "/" in behind or relay.endswith(f"/p2p/{behind}"):
        raise AddressInvalid(f"not an address through one relay: {address}")
    return relay, decode_peer_id(behind).to_base58()
