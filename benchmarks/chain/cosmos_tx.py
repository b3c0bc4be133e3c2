"""Signed bank sends of an Injective account: key, address, transaction bytes (cosmos-sdk's SIGN_MODE_DIRECT)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from coincurve import PrivateKey
from Crypto.Hash import keccak

from benchmarks.chain.protobuf import encode_any, field

CHAIN_ID = "injective-777"
DENOM = "inj"
GAS_LIMIT = 150_000
FEE = str(GAS_LIMIT * 500_000_000)
_PUBLIC_KEY_TYPE = "/injective.crypto.v1beta1.ethsecp256k1.PubKey"
_SEND_TYPE = "/cosmos.bank.v1beta1.MsgSend"
_ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


@dataclass(frozen=True, slots=True)
class Account:
    """A key and its address, `inj1...`; `number` is the account's number on the chain."""

    key: PrivateKey
    address: str
    number: int


def make_account(name: str, number: int) -> Account:
    """The account of a name; its key is the name's hash."""
    key = PrivateKey(hashlib.sha256(name.encode()).digest())
    return Account(key, encode_bech32("inj", hash_keccak(key.public_key.format(compressed=False)[1:])[-20:]), number)


def hash_keccak(data: bytes) -> bytes:
    """Keccak-256, as Ethereum uses it."""
    return keccak.new(digest_bits=256, data=data).digest()


def sign_send(source: Account, dest: str, amount: int, sequence: int) -> bytes:
    """TxRaw of a bank send."""
    send = field(1, source.address) + field(2, dest) + field(3, field(1, DENOM) + field(2, str(amount)))
    body = field(1, encode_any(_SEND_TYPE, send))
    public_key = encode_any(_PUBLIC_KEY_TYPE, field(1, source.key.public_key.format()))
    signer = field(1, public_key) + field(2, field(1, field(1, 1))) + field(3, sequence)
    fee = field(1, field(1, DENOM) + field(2, FEE)) + field(2, GAS_LIMIT)
    auth = field(1, signer) + field(2, fee)
    document = field(1, body) + field(2, auth) + field(3, CHAIN_ID) + field(4, source.number)
    signature = source.key.sign_recoverable(hash_keccak(document), hasher=None)[:64]
    return field(1, body) + field(2, auth) + field(3, signature)


def encode_bech32(prefix: str, data: bytes) -> str:
    """Bech32 text (BIP 173)."""
    bits = int.from_bytes(data, "big")
    groups = -(-len(data) * 8 // 5)
    bits <<= groups * 5 - len(data) * 8
    words = [bits >> 5 * (groups - 1 - at) & 31 for at in range(groups)]
    expanded = [ord(one) >> 5 for one in prefix] + [0] + [ord(one) & 31 for one in prefix]
    checksum = _compute_checksum([*expanded, *words, 0, 0, 0, 0, 0, 0]) ^ 1
    words += [checksum >> 5 * (5 - at) & 31 for at in range(6)]
    return f"{prefix}1{''.join(_ALPHABET[one] for one in words)}"


def _compute_checksum(values: list[int]) -> int:
    found = 1
    for value in values:
        top, found = found >> 25, (found & 0x1FFFFFF) << 5 ^ value
        for at, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            found ^= generator if top >> at & 1 else 0
    return found
