"""Derivation against published vectors: SLIP-0010 (curve ed25519, vectors 1 and 2), BIP39 (Trezor's list)."""

from __future__ import annotations

import itertools

import pytest

from node.keys.derivation import (
    KeyKind,
    MnemonicInvalid,
    derive_key,
    derive_seed,
    format_path,
    generate_mnemonic,
    validate_mnemonic,
)

WORDS = "abandon " * 11 + "about"
SEED_1 = bytes.fromhex("000102030405060708090a0b0c0d0e0f")
SEED_2 = bytes.fromhex(
    "fffcf9f6f3f0edeae7e4e1dedbd8d5d2cfccc9c6c3c0bdbab7b4b1aeaba8a5a29f9c999693908d8a8784817e7b7875726f6c696663605d5a"
    "5754514e4b484542"
)


@pytest.mark.parametrize(
    ("seed", "path", "private"),
    [
        (SEED_1, (), "2b4be7f19ee27bbf30c667b642d5f4aa69fd169872f8fc3059c08ebae2eb19e7"),
        (SEED_1, (0,), "68e0fe46dfb67e368c75379acec591dad19df3cde26e63b93a8e704f1dade7a3"),
        (SEED_1, (0, 1), "b1d0bad404bf35da785a64ca1ac54b2617211d2777696fbffaf208f746ae84f2"),
        (SEED_1, (0, 1, 2), "92a5b23c0b8a99e37d07df3fb9966917f5d06e02ddbd909c7e184371463e9fc9"),
        (SEED_1, (0, 1, 2, 2), "30d1dc7e5fc04c31219ab25a27ae00b50f6fd66622f6e9c913253d6511d1e662"),
        (SEED_1, (0, 1, 2, 2, 1000000000), "8f94d394a8e8fd6b1bc2f3f49f5c47e385281d5c17e65324b0f62483e37e8793"),
        (SEED_2, (), "171cb88b1b3c1db25add599712e36245d75bc65a1a5c9e18d76f9f2b1eab4012"),
        (SEED_2, (0,), "1559eb2bbec5790b0c65d8693e4d0875b1747f4970ae8b650486ed7470845635"),
        (SEED_2, (0, 2147483647), "ea4f5bfe8694d8bb74b7b59404632fd5968b774ed545e810de9c32a4fb4192f4"),
    ],
)
def test_slip10_vectors(seed: bytes, path: tuple[int, ...], private: str) -> None:
    assert derive_seed(seed, path).hex() == private


def test_kinds_indexes_and_passphrases_give_different_keys() -> None:
    made = [
        derive_key(WORDS, kind, index, passphrase).public_key
        for kind, index, passphrase in itertools.product(KeyKind, (0, 1), ("", "x"))
    ]
    assert len(set(made)) == len(made)
    assert derive_key(WORDS, KeyKind.ACCOUNT).public_key == made[0]


def test_spaces_and_case_do_not_matter() -> None:
    assert derive_key(f"  {WORDS.upper()}\n", KeyKind.NODE) == derive_key(WORDS, KeyKind.NODE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("abandon " * 11 + "abandon", "checksum"),
        ("abandon " * 11, "11 words"),
        ("", "0 words"),
        ("abandon " * 11 + "abouts", "word 12"),
    ],
)
def test_a_wrong_mnemonic_is_refused_with_its_fault(text: str, said: str) -> None:
    with pytest.raises(MnemonicInvalid, match=said):
        validate_mnemonic(text)


@pytest.mark.parametrize("words", [12, 15, 18, 21, 24])
def test_a_generated_mnemonic_is_valid_and_fresh(words: int) -> None:
    one, other = generate_mnemonic(words), generate_mnemonic(words)
    assert len(one.split()) == words
    assert validate_mnemonic(one) == one != other


def test_only_the_counts_of_bip39_are_generated() -> None:
    with pytest.raises(ValueError, match="not 13"):
        generate_mnemonic(13)


def test_index_bounds() -> None:
    derive_key(WORDS, KeyKind.ACCOUNT, 2**31 - 1)
    with pytest.raises(ValueError, match="key index"):
        derive_key(WORDS, KeyKind.ACCOUNT, 2**31)
    with pytest.raises(ValueError, match="key index"):
        derive_key(WORDS, KeyKind.ACCOUNT, -1)


def test_path_as_text() -> None:
    assert format_path(KeyKind.WORKER, 3) == "m/44'/7731'/2'/3'"
