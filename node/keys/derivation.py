"""From words to keys: BIP39 mnemonics and SLIP-0010 derivation for Ed25519. Pure but for fresh entropy; knows no files.

Path (normative, storage.md): m / 44' / 7731' / kind' / index'. Ed25519 has hardened steps only. 7731 is no registered
SLIP-44 number; it keeps our keys apart from other chains' keys of the same words.
"""

from __future__ import annotations

import enum
import hashlib
import hmac

from mnemonic import Mnemonic

from proto_specs.ed25519 import SigningKey
from proto_specs.errors import MyelinError

WORDS_DEFAULT = 24
PURPOSE = 44
COIN_TYPE = 7731
INDEX_MAX = (1 << 31) - 1
_HARDENED = 1 << 31
_STRENGTH_BITS = {12: 128, 15: 160, 18: 192, 21: 224, 24: 256}
_WORDS = Mnemonic("english")


class KeyKind(enum.StrEnum):
    """The purpose of a key. No key serves two purposes."""

    ACCOUNT = "account"
    VALIDATOR = "validator"
    WORKER = "worker"
    NODE = "node"


_KIND_INDEX = {KeyKind.ACCOUNT: 0, KeyKind.VALIDATOR: 1, KeyKind.WORKER: 2, KeyKind.NODE: 3}


class MnemonicInvalid(MyelinError):
    """The words are not a BIP39 mnemonic. The message says which word, or that the checksum fails."""


def generate_mnemonic(words: int = WORDS_DEFAULT) -> str:
    """Fresh English words. Raises ValueError for a count BIP39 does not have."""
    if words not in _STRENGTH_BITS:
        raise ValueError(f"a mnemonic has {', '.join(map(str, _STRENGTH_BITS))} words, not {words}")
    return _WORDS.generate(_STRENGTH_BITS[words])


def validate_mnemonic(text: str) -> str:
    """The words with single spaces in lower case. Raises MnemonicInvalid."""
    words = text.lower().split()
    if len(words) not in _STRENGTH_BITS:
        raise MnemonicInvalid(f"{len(words)} words; a mnemonic has {', '.join(map(str, _STRENGTH_BITS))}")
    for place, word in enumerate(words, start=1):
        if word not in _WORDS.wordlist:
            raise MnemonicInvalid(f"word {place} is not in the BIP39 list: look for a typing error")
    joined = " ".join(words)
    if not _WORDS.check(joined):
        raise MnemonicInvalid("the checksum fails: a word is wrong, or two changed places")
    return joined


def derive_key(mnemonic: str, kind: KeyKind, index: int = 0, passphrase: str = "") -> SigningKey:
    """Key number `index` of a kind. Raises MnemonicInvalid; ValueError for an index over 2^31 - 1."""
    if not 0 <= index <= INDEX_MAX:
        raise ValueError(f"key index {index} is not in 0..{INDEX_MAX}")
    seed = Mnemonic.to_seed(validate_mnemonic(mnemonic), passphrase)
    return SigningKey.from_seed(derive_seed(seed, (PURPOSE, COIN_TYPE, _KIND_INDEX[kind], index)))


def format_path(kind: KeyKind, index: int) -> str:
    """The derivation path as text."""
    return f"m/{PURPOSE}'/{COIN_TYPE}'/{_KIND_INDEX[kind]}'/{index}'"


def derive_seed(master_seed: bytes, path: tuple[int, ...]) -> bytes:
    """SLIP-0010, curve ed25519: the 32-byte private key at `path`, each step hardened (0 stands for 0')."""
    digest = hmac.digest(b"ed25519 seed", master_seed, hashlib.sha512)
    for step in path:
        data = b"\0" + digest[:32] + (step | _HARDENED).to_bytes(4, "big")
        digest = hmac.digest(digest[32:], data, hashlib.sha512)
    return digest[:32]
