"""The transaction pool of a node: the mempool, the runtime's validity rules over the head, signatures checked once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

from consensus.runtime.balances.state import read_account
from consensus.runtime.errors import BadSignature, InvalidTransaction
from consensus.runtime.fees import compute_fee
from consensus.runtime.system.space import Space, compute_room
from consensus.runtime.system.state import read_params, read_weight_price
from consensus.runtime.validity import SignatureCheck, TransactionValidity, find_birth_hash, validate_transaction
from node.chain.mempool import AlreadyKnown, Mempool
from node.signatures.jobs import SignatureJob
from node.store.chain_store import ChainStore, FinalizedBlock
from proto_specs.types.chain import (
    Transaction,
    compute_extrinsic_hash,
    compute_transaction_digest,
    is_transaction_signed,
)

SIGNATURES_MAX = 32_768


@dataclass(frozen=True, slots=True)
class Prepared:
    """A transaction valid on the head at `height` but for its signature; `job` is None when that was checked before."""

    transaction: Transaction
    validity: TransactionValidity
    birth_hash: bytes
    height: int
    job: SignatureJob | None


class TransactionPool:
    """`submit`, or `prepare` and then `admit`, take in; `select` gives candidates; `advance` follows blocks."""

    def __init__(self, store: ChainStore, mempool: Mempool) -> None:
        self._store = store
        self._mempool = mempool
        self._signed: OrderedDict[tuple[bytes, bytes], None] = OrderedDict()
        self._head = store.get_head()

    def __len__(self) -> int:
        return len(self._mempool)

    @property
    def height(self) -> int:
        """The last block that the pool followed. A reader that sees it finds that block in every part of the node."""
        return self._head.height

    def __contains__(self, extrinsic: bytes) -> bool:
        return extrinsic in self._mempool

    def __iter__(self) -> Iterator[Transaction]:
        return iter(self._mempool)

    def submit(self, transaction: Transaction) -> bytes:
        """Check against the head and keep; returns the extrinsic hash. Raises InvalidTransaction with its reason."""
        prepared = self.prepare(transaction)
        job = prepared.job
        return self.admit(prepared, is_signed=job is None or self.is_signed(transaction, *_get_signature_key(prepared)))

    def prepare(self, transaction: Transaction) -> Prepared:
        """Check everything but the signature, which costs most. Raises InvalidTransaction with its reason."""
        validity = self._validate(transaction, _assume_signed)
        if validity.extrinsic in self._mempool:
            raise AlreadyKnown("this transaction is in the pool already")
        birth_hash = self._find_birth_hash(transaction)
        job = None
        if (validity.extrinsic, birth_hash) not in self._signed:
            digest = compute_transaction_digest(transaction, self._store.genesis_hash, birth_hash)
            job = SignatureJob(validity.signer, digest, transaction.signature)
        return Prepared(transaction, validity, birth_hash, self._head.height, job)

    def admit(self, prepared: Prepared, *, is_signed: bool) -> bytes:
        """Keep a prepared transaction whose signature was checked; returns its hash. Raises InvalidTransaction."""
        if not is_signed:
            raise BadSignature("the signature does not verify for this chain, runtime version and birth block")
        self._remember(_get_signature_key(prepared))
        validity = prepared.validity
        if prepared.height != self._head.height:
            validity = self._validate(prepared.transaction, self.is_signed)
        self._mempool.add(prepared.transaction, validity, self._head.height)
        return validity.extrinsic

    def select(self) -> Iterator[Transaction]:
        """Candidates for the next block, best first, as many as fit."""
        params = read_params(self._store)
        return self._mempool.select({space: compute_room(params, space) for space in Space})

    def get_next_nonce(self, account: bytes) -> int:
        """The nonce for the account's next transaction, after those waiting here."""
        return self._mempool.get_next_nonce(account, read_account(self._store, account).nonce)

    def is_signed(self, transaction: Transaction, extrinsic: bytes, birth_hash: bytes) -> bool:
        """`SignatureCheck` with a cache: a valid signature is not verified again."""
        key = (extrinsic, birth_hash)
        if key in self._signed:
            return True
        if not is_transaction_signed(transaction, self._store.genesis_hash, birth_hash):
            return False
        self._remember(key)
        return True

    def is_signature_known_good(self, transaction: Transaction) -> bool:
        """Whether its signature is valid, even if the transaction is not. False if its birth block is unknown."""
        try:
            birth_hash = self._find_birth_hash(transaction)
        except InvalidTransaction:
            return False
        return self.is_signed(transaction, compute_extrinsic_hash(transaction), birth_hash)

    def list_unseen(self, transactions: tuple[Transaction, ...]) -> list[tuple[tuple[bytes, bytes], SignatureJob]]:
        """Signatures of a block not yet checked: (key for `remember_signed`, job). Unknown births are skipped."""
        found = []
        for transaction in transactions:
            try:
                birth_hash = self._find_birth_hash(transaction)
            except InvalidTransaction:
                continue  # its execution refuses the block
            key = (compute_extrinsic_hash(transaction), birth_hash)
            if key not in self._signed:
                digest = compute_transaction_digest(transaction, self._store.genesis_hash, birth_hash)
                found.append((key, SignatureJob(transaction.body.signer, digest, transaction.signature)))
        return found

    def remember_signed(self, key: tuple[bytes, bytes]) -> None:
        """The signature behind a key of `list_unseen` is valid."""
        self._remember(key)

    def advance(self, finalized: FinalizedBlock) -> None:
        """Follow the chain: forget included transactions and those that the new state rules out."""
        self._head = finalized.head
        self._mempool.advance(self._head.height, _StoreLedger(self._store))

    def remove(self, extrinsic: bytes) -> bool:
        """Forget a waiting transaction; whether there was one."""
        return self._mempool.remove(extrinsic)

    def _remember(self, key: tuple[bytes, bytes]) -> None:
        self._signed[key] = None
        while len(self._signed) > SIGNATURES_MAX:
            self._signed.popitem(last=False)

    def _find_birth_hash(self, transaction: Transaction) -> bytes:
        head = self._head
        genesis = self._store.genesis_hash
        return find_birth_hash(self._store, transaction.body, head.height + 1, genesis, head.block_hash)

    def _validate(self, transaction: Transaction, is_signed: SignatureCheck) -> TransactionValidity:
        return validate_transaction(
            self._store,
            transaction,
            height=self._head.height + 1,
            genesis=self._store.genesis_hash,
            parent_hash=self._head.block_hash,
            is_signed=is_signed,
        )


def _assume_signed(_transaction: Transaction, _extrinsic: bytes, _birth_hash: bytes) -> bool:
    return True


def _get_signature_key(prepared: Prepared) -> tuple[bytes, bytes]:
    return prepared.validity.extrinsic, prepared.birth_hash


class _StoreLedger:
    """`Ledger` of the head; reads prices once."""

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
