"""What names, addresses and hashes mean: each taken for what it is, everything else refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from node.cli.keyring import HashInvalid, find_account, find_public_key, load_signing_key, parse_hash
from node.keys.derivation import KeyKind
from node.keys.keystore import KeyInfo, Keystore, KeystoreError, KeystoreMissing, get_dev_key
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import AddressError
from proto_specs.ss58 import encode_address
from tests.unit.node.cli.conftest import QUICK_N

KEY = SigningKey.from_seed(bytes(range(32)))
ADDRESS = encode_address(KEY.public_key, 42)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    for name, kind in (("mine", KeyKind.ACCOUNT), ("gpu", KeyKind.WORKER)):
        Keystore(tmp_path).save(KeyInfo(name, kind, KEY.public_key), KEY, "secret", scrypt_n=QUICK_N)
    return tmp_path


@pytest.mark.parametrize("text", [ADDRESS, "mine", f"0x{KEY.public_key.hex()}"])
def test_an_account_by_any_of_its_names(keys: Path, text: str) -> None:
    assert find_account(text, 42, keys) == KEY.public_key


def test_development_names(keys: Path) -> None:
    assert find_account("dev:bob", 42, keys) == get_dev_key("bob", KeyKind.ACCOUNT).public_key
    assert find_public_key("dev:bob", KeyKind.WORKER, keys) == get_dev_key("bob", KeyKind.WORKER).public_key


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("nobody", "nor is there a key of this name"),
        (ADDRESS[:-1] + "1", "typing error"),
        (encode_address(KEY.public_key, 7), "another chain"),
        ("", "wrong length"),
    ],
)
def test_what_is_no_account(keys: Path, text: str, why: str) -> None:
    with pytest.raises(AddressError, match=why):
        find_account(text, 42, keys)


def test_no_key_serves_two_purposes(keys: Path) -> None:
    with pytest.raises(KeystoreError, match="of kind worker; this takes one of kind account"):
        find_account("gpu", 42, keys)
    with pytest.raises(KeystoreError, match="of kind account; this takes one of kind validator"):
        load_signing_key("mine", KeyKind.VALIDATOR, keys)
    with pytest.raises(KeystoreMissing):
        find_public_key("nobody", KeyKind.ACCOUNT, keys)


@pytest.mark.parametrize("text", ["", "0x", "0x12", "x" * 64, "0x" + "1" * 63, "0x" + "1" * 66])
def test_what_is_no_hash(text: str) -> None:
    with pytest.raises(HashInvalid, match="32 bytes"):
        parse_hash(text)


def test_hashes_with_and_without_0x() -> None:
    assert parse_hash("ab" * 32) == parse_hash("0x" + "AB" * 32) == b"\xab" * 32
