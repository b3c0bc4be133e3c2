"""Addresses: Substrate's own, their typing errors, and other chains'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proto_specs.errors import AddressError
from proto_specs.ss58 import decode_address, encode_address

ALICE = bytes.fromhex("d43593c715fdd31c61141abd04a99fd6822c8558854ccde39a5684e7a56da27d")
ALICE_42 = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY"
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"

# Published: subkey's development accounts, and the address tests of polkadot-js (252 and 255 have two prefix bytes).
BOB = bytes.fromhex("8eaf04151687736326c9fea17e25fc5287613693c912909cb226aa4794f26a48")
OTHER = bytes.fromhex("fc422da6c3bc6dfa2a436a506428072941662f816987baaa8914e02ff5947f4b")
ANOTHER = bytes.fromhex("d172a74cda4c865912c32ba0a80a57ae69abae410e5ccb59dee84e2f4432db4f")
KNOWN = [
    (42, "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQY", ALICE),
    (42, "5FHneW46xGXgs5mUiveU4sbTyGBzmstUspZC92UhjJM694ty", BOB),
    (0, "15oF4uVJwmo4TdGW7VfQxNLavjCXviqxT9S1MgbjMNHr6Sp5", ALICE),
    (2, "HNZata7iMYWmk5RvZRTiAsSDhV8366zq2YGb3tLH5Upf74F", ALICE),
    (252, "xw9Hca4RJTmBRgzJT4ieJBh7XCK9gE3NXBDSEmgGHd4TCrbnG", OTHER),
    (255, "yGHU8YKprxHbHdEv7oUK4rzMZXtsdhcXVG2CAMyC9WhzhjH2k", ANOTHER),
]


@pytest.mark.parametrize(("prefix", "text", "account"), KNOWN)
def test_published_addresses(prefix: int, text: str, account: bytes) -> None:
    assert encode_address(account, prefix) == text
    assert decode_address(text, prefix) == account


@given(st.binary(min_size=32, max_size=32), st.integers(0, (1 << 14) - 1))
def test_round_trip(account: bytes, prefix: int) -> None:
    assert decode_address(encode_address(account, prefix), prefix) == account


def test_every_wrong_character_is_noticed() -> None:
    for at in range(len(ALICE_42)):
        for char in BASE58:
            if char != ALICE_42[at]:
                with pytest.raises(AddressError):
                    decode_address(ALICE_42[:at] + char + ALICE_42[at + 1 :], 42)


def test_every_swap_omission_and_doubling_is_noticed() -> None:
    for at in range(len(ALICE_42)):
        wrong = {ALICE_42[:at] + ALICE_42[at + 1 :], ALICE_42[: at + 1] + ALICE_42[at:]}
        if at:
            wrong.add(ALICE_42[: at - 1] + ALICE_42[at] + ALICE_42[at - 1] + ALICE_42[at + 1 :])
        for text in wrong - {ALICE_42}:
            with pytest.raises(AddressError):
                decode_address(text, 42)


@pytest.mark.parametrize("other", [0, 41, 43, 63, 64, 252, 16_383])
def test_an_address_of_another_chain_is_named_so(other: int) -> None:
    for here, there in ((42, other), (other, 42)):
        with pytest.raises(AddressError, match=f"another chain .this chain's prefix is {here}"):
            decode_address(encode_address(ALICE, there), here)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "wrong length"),
        ("1", "wrong length"),
        ("1" * 64, "wrong length"),
        ("1" + ALICE_42, "wrong length"),
        ("5" * 65, "65 characters long"),
        (ALICE_42[:-1] + "0", "'0', which is not base58"),
        (ALICE_42[:-1] + "O", "'O', which is not base58"),
        (ALICE_42[:-1] + "١", "not base58"),
        (" " + ALICE_42, "not base58"),
        (ALICE_42[:-1] + "Z", "typing error"),
        ("0x" + ALICE.hex(), "66 characters long"),
    ],
)
def test_what_is_wrong_is_named(text: str, reason: str) -> None:
    with pytest.raises(AddressError, match=reason):
        decode_address(text, 42)


def test_the_old_one_byte_form_of_high_prefixes_is_no_address() -> None:
    """Before prefixes had two bytes 68 was written as one byte 0x44, which now begins a prefix of two."""
    with pytest.raises(AddressError):
        decode_address("7sL6eNJj5ZGV5cn3hhV2deRUsivXfBfMH76wCALCqWj1EKzv", 68)


def test_accounts_and_prefixes_out_of_range_are_bugs() -> None:
    with pytest.raises(AssertionError):
        encode_address(bytes(31), 42)
    with pytest.raises(AssertionError):
        encode_address(bytes(32), 1 << 14)
