"""Transactions and validities for mempool tests, made without keys: the pool looks at no signature."""

from __future__ import annotations

from consensus.runtime.system.space import Room, Space
from consensus.runtime.validity import TransactionValidity
from node.chain.mempool import Mempool
from proto_specs.types.calls import Remark
from proto_specs.types.chain import Transaction, TransactionBody, compute_extrinsic_hash

WEIGHT = 200
FEE = 1_000


def make_transaction(signer: int, nonce: int, tip: int = 0, salt: int = 0) -> Transaction:
    """A transaction of account number `signer`."""
    return Transaction(TransactionBody(bytes([signer]) * 32, nonce, Remark(bytes([salt])), tip, 0, 0), bytes(64))


def make_validity(
    transaction: Transaction,
    expected: int = 0,
    *,
    size_bytes: int = 100,
    weight: int = WEIGHT,
    free: int = 10**12,
    expires: int | None = None,
    space: Space = Space.COMMON,
) -> TransactionValidity:
    """What the runtime would say of it."""
    body = transaction.body
    return TransactionValidity(
        extrinsic=compute_extrinsic_hash(transaction),
        signer=body.signer,
        nonce=body.nonce,
        expected_nonce=expected,
        size_bytes=size_bytes,
        weight=weight,
        fee=FEE,
        tip=body.tip,
        free=free,
        expires_height=expires,
        space=space,
    )


class FixedLedger:
    """(nonce, free) by account number; (0, plenty) where none is set."""

    def __init__(self, accounts: dict[int, tuple[int, int]] | None = None, fee: int = FEE) -> None:
        self._accounts = accounts or {}
        self._fee = fee

    def read_account(self, account: bytes) -> tuple[int, int]:
        return self._accounts.get(account[0], (0, 10**12))

    def compute_fee(self, size_bytes: int, weight: int) -> int:
        return self._fee


def fill(pool: Mempool, *items: tuple[int, int, int]) -> list[Transaction]:
    """Add (signer, nonce, tip) in order."""
    made = [make_transaction(*item) for item in items]
    for one in made:
        pool.add(one, make_validity(one), 1)
    return made


def select_all(pool: Mempool) -> list[tuple[int, int]]:
    """(signer, nonce) of everything a boundless block would take."""
    return [(one.body.signer[0], one.body.nonce) for one in pool.select(make_rooms())]


def make_rooms(weight_max: int = 10**12, bytes_max: int = 10**12) -> dict[Space, Room]:
    """A block without reserved parts."""
    return dict.fromkeys(Space, Room(weight_max, bytes_max, 10**9))
