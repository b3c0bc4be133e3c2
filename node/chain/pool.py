"""The transaction pool of a node: the mempool, the runtime's validity rules over the head, signatures checked once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from consensus.runtime.balances.state import read_account
from consensus.runtime.fees import compute_fee
from consensus.runtime.system.state import read_params, read_weight_price
from consensus.runtime.validity import TransactionValidity, validate_transaction
from node.mempool import AlreadyKnown, Mempool
from node.store.chain_store import ChainStore, FinalizedBlock
from proto_specs.types.chain import Transaction, compute_extrinsic_hash, is_transaction_signed

SIGNATURES_MAX = 65_536


class TransactionPool:
    """Submissions come in by `submit`, blocks take by `select`, `advance` follows the chain."""

    def __init__(self, store: ChainStore, mempool: Mempool) -> None:
        self._store = store
        self._mempool = mempool
        self._signed: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()
        self._head = store.get_head()

    def __len__(self) -> int:
        return len(self._mempool)

    def __contains__(self, extrinsic: bytes) -> bool:
        return extrinsic in self._mempool

    def __iter__(self) -> Iterator[Transaction]:
        return iter(self._mempool)

    def submit(self, transaction: Transaction) -> bytes:
        """Check against the head and keep; the extrinsic hash. Raises InvalidTransaction with its reason."""
        if compute_extrinsic_hash(transaction) in self._mempool:
            raise AlreadyKnown("this transaction is in the pool already")
        validity = self._validate(transaction)
        self._mempool.add(transaction, validity, self._head.height)
        return validity.extrinsic

    def select(self) -> Iterator[Transaction]:
        """Candidates for the next block, best first, as many as have room."""
        params = read_params(self._store)
        return self._mempool.select(params.block_weight_max, params.block_bytes_max)

    def get_next_nonce(self, account: bytes) -> int:
        """The nonce the account's next transaction should have, counting what waits here."""
        return self._mempool.get_next_nonce(account, read_account(self._store, account).nonce)

    def is_signed(self, transaction: Transaction, birth_hash: bytes) -> bool:
        """`SignatureCheck` with a memory: a signature seen once is not verified again."""
        key = (compute_extrinsic_hash(transaction), birth_hash)
        if key in self._signed:
            return True
        if not is_transaction_signed(transaction, self._store.genesis_hash, birth_hash):
            return False
        self._signed[key] = None
        while len(self._signed) > SIGNATURES_MAX:
            self._signed.popitem(last=False)
        return True

    def advance(self, finalized: FinalizedBlock) -> None:
        """Follow the chain: forget what was included and what the new state no longer allows."""
        self._head = finalized.head
        self._mempool.advance(self._head.height, _StoreLedger(self._store))

    def _validate(self, transaction: Transaction) -> TransactionValidity:
        return validate_transaction(
            self._store,
            transaction,
            height=self._head.height + 1,
            genesis=self._store.genesis_hash,
            parent_hash=self._head.block_hash,
            is_signed=self.is_signed,
        )


class _StoreLedger:
    """`Ledger` of the head; prices are read once."""

    def __init__(self, store: ChainStore) -> None:
        self._store = store
        self._params = read_params(store)
        self._weight_price = read_weight_price(store)

    def read_account(self, account: bytes) -> tuple[int, int]:
        """See Ledger."""
        found = read_account(self._store, account)
        return found.nonce, found.free

    def compute_fee(self, size_bytes: int, weight: int) -> int:
        """See Ledger."""
        return compute_fee(self._params, self._weight_price, size_bytes, weight)
