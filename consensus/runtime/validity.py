"""Whether a transaction may be in a block: size, mortality, nonce, fee, signature. The mempool runs the same checks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from consensus.runtime.balances.state import Account, read_account
from consensus.runtime.errors import (
    BadSignature,
    CannotPayFee,
    Expired,
    NotYetBorn,
    StaleNonce,
    TooLarge,
    UnknownBirth,
)
from consensus.runtime.fees import compute_fee
from consensus.runtime.places import find_space
from consensus.runtime.system import state as system
from consensus.runtime.system.space import Space, compute_room
from consensus.runtime.weights import compute_weight
from consensus.state.reader import StateReader
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import EXTRINSIC_BYTES_MAX, MORTALITY_BLOCKS_MAX
from proto_specs.types.chain import Transaction, TransactionBody, is_transaction_signed

SignatureCheck = Callable[[Transaction, bytes, bytes], bool]
"""(transaction, its hash, birth hash) -> whether its signer signed it for this chain. A node may answer from a cache.

The hash covers the signature too, so a cache needs only the hash and the birth hash as its key.
"""


@dataclass(frozen=True, slots=True)
class TransactionValidity:
    """A transaction that may be in block `height`, or will when its nonce comes up (`nonce >= expected_nonce`).

    `expires_height` is the last block it is valid in (None: for ever). `free` is the signer's balance to pay from,
    `space` the part of a block that it may fill if its call succeeds.
    """

    extrinsic: bytes
    signer: bytes
    nonce: int
    expected_nonce: int
    size_bytes: int
    weight: int
    fee: int
    tip: int
    free: int
    expires_height: int | None
    space: Space = Space.COMMON


def validate_transaction(
    reader: StateReader,
    transaction: Transaction,
    *,
    height: int,
    genesis: bytes,
    parent_hash: bytes,
    is_signed: SignatureCheck | None = None,
) -> TransactionValidity:
    """Check against the state after block `height - 1`, whose hash is `parent_hash`.

    A nonce ahead of the account's is no error here. Raises InvalidTransaction (`reason`, `details`).
    """
    birth_hash = find_birth_hash(reader, transaction.body, height, genesis, parent_hash)
    validity, _ = check_transaction(reader, transaction, birth_hash, is_signed or build_signature_check(genesis))
    return validity


def build_signature_check(genesis: bytes) -> SignatureCheck:
    """Builds a check without a cache: it verifies the signature every time."""
    return lambda transaction, _extrinsic, birth_hash: is_transaction_signed(transaction, genesis, birth_hash)


def find_birth_hash(
    reader: StateReader, body: TransactionBody, height: int, genesis: bytes, parent_hash: bytes
) -> bytes:
    """The block hash the signature covers. Raises Expired, NotYetBorn or UnknownBirth for block `height`."""
    if body.period_blocks == 0:
        return genesis
    birth = body.birth_height
    if body.period_blocks > MORTALITY_BLOCKS_MAX:
        raise UnknownBirth(f"a period is at most {MORTALITY_BLOCKS_MAX} blocks", period_max=MORTALITY_BLOCKS_MAX)
    if birth >= height:
        raise NotYetBorn(f"born in block {birth}, this is block {height}", birth_height=birth, height=height)
    if birth + body.period_blocks < height:
        last = birth + body.period_blocks
        raise Expired(f"valid until block {last}, this is block {height}", last_height=last, height=height)
    if birth == height - 1:
        return parent_hash
    info = system.read_block_info(reader, birth)
    if info is None:
        raise UnknownBirth(f"the hash of block {birth} is not known here", birth_height=birth)
    return info.hash


def check_transaction(
    reader: StateReader, transaction: Transaction, birth_hash: bytes, is_signed: SignatureCheck
) -> tuple[TransactionValidity, Account]:
    """Checks everything except mortality and the order of nonces; also returns the signer's account as read.

    Raises TooLarge, StaleNonce, CannotPayFee, BadSignature. The signature is checked last because it costs most.
    """
    body, encoded = transaction.body, encode(transaction)
    params = system.read_params(reader)
    weight = compute_weight(transaction)
    if len(encoded) > EXTRINSIC_BYTES_MAX:
        raise TooLarge(f"{len(encoded)} bytes, {EXTRINSIC_BYTES_MAX} are allowed", bytes=len(encoded))
    space = find_space(reader, body.signer, body.call)
    room = compute_room(params, space)
    if weight > room.weight or len(encoded) > room.bytes:
        raise TooLarge(
            f"weight {weight} and {len(encoded)} bytes, a block has {room.weight} and {room.bytes} for it",
            weight=weight,
        )
    account = read_account(reader, body.signer)
    if body.nonce < account.nonce:
        raise StaleNonce(f"nonce {body.nonce} was used, the next is {account.nonce}", expected=account.nonce)
    fee = compute_fee(params, system.read_weight_price(reader), len(encoded), weight)
    if account.free < fee + body.tip:
        needed = fee + body.tip
        raise CannotPayFee(f"{account.free} nmyl are free, {needed} are needed", needed=needed, free=account.free)
    extrinsic = hash_tagged(Tag.EXTRINSIC, encoded)
    if not is_signed(transaction, extrinsic, birth_hash):
        raise BadSignature("the signature does not verify for this chain, runtime version and birth block")
    expires = body.birth_height + body.period_blocks if body.period_blocks else None
    return TransactionValidity(
        extrinsic,
        body.signer,
        body.nonce,
        account.nonce,
        len(encoded),
        weight,
        fee,
        body.tip,
        account.free,
        expires,
        space,
    ), account
