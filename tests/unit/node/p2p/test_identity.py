"""Node keys, peer ids and addresses as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.p2p.address import decode_address
from node.p2p.errors import AddressInvalid
from node.p2p.identity import compute_key_pair, compute_peer_id, decode_peer_id

RFC8032_SEED = bytes.fromhex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
RFC8032_PUBLIC = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")


def test_the_seed_is_the_rfc8032_seed() -> None:
    assert compute_key_pair(RFC8032_SEED).public_key.to_bytes() == RFC8032_PUBLIC
    assert decode_peer_id(compute_peer_id(RFC8032_SEED)).to_bytes() == bytes.fromhex("002408011220") + RFC8032_PUBLIC
    assert compute_peer_id(RFC8032_SEED).startswith("12D3KooW")


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_a_seed_of_another_length_is_refused(seed: bytes) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        compute_peer_id(seed)


def test_an_all_zero_seed_is_a_key_like_any_other() -> None:
    assert compute_peer_id(bytes(32)) == compute_peer_id(bytes(32)) != compute_peer_id(bytes(31) + b"\1")


@given(text=st.text(max_size=80))
def test_any_text_is_an_address_or_a_typed_error(text: str) -> None:
    with pytest.raises(AddressInvalid):
        decode_address(text)


@pytest.mark.parametrize("address", ["/ip4/10.0.0.1/tcp/9", "/ip6/::1/tcp/9", "/dns4/node.example/tcp/9"])
def test_dialable_addresses_are_taken_apart(address: str) -> None:
    peer_id = compute_peer_id(bytes(32))
    dialed, decoded = decode_address(f"{address}/p2p/{peer_id}")
    assert str(dialed) == f"{address}/p2p/{peer_id}"
    assert decoded == peer_id
    assert decode_address(peer_id) == (None, peer_id)


@pytest.mark.parametrize(
    "bad",
    [
        "/ip4/10.0.0.1/udp/9/quic-v1/p2p/{}",
        "/ip4/10.0.0.1/tcp/9",
        "/ip4/10.0.0.1/tcp/70000/p2p/{}",
        "/ip4/10.0.0.1/tcp/9/p2p/QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
        " {}",
        "{}x",
    ],
)
def test_undialable_addresses_are_refused(bad: str) -> None:
    with pytest.raises(AddressInvalid):
        decode_address(bad.format(compute_peer_id(bytes(32))))
