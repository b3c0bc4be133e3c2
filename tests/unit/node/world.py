"""A development chain on a real database for tests: transfers signed, blocks built, committed and stored."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from consensus.beacon import prove_beacon
from genesis.builder import Genesis, build_genesis
from genesis.dev import DEV_GENESIS_TIME_MS, DevIdentity, build_dev_spec, get_dev_identity
from node.chain.blocks import ExecutedCandidate, Proposer, build_block, finalize_block
from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.store.chain_store import ChainStore, FinalizedBlock, Head
from node.store.retention import DEFAULT_RETENTION, Retention
from proto_specs.hashing import Tag
from proto_specs.types.calls import Call, Transfer
from proto_specs.types.chain import (
    Commit,
    CommitSignature,
    Evidence,
    Transaction,
    TransactionBody,
    VoteKind,
    compute_vote_bytes,
    sign_transaction,
)

MYL = 10**9
ALICE = get_dev_identity("alice")
BOB = get_dev_identity("bob")
PROPOSER = Proposer(ALICE.consensus_key.public_key, partial(prove_beacon, ALICE.consensus_key.seed))


def make_genesis() -> Genesis:
    """The development chain with alice as its only validator."""
    return build_genesis(build_dev_spec())


def make_transfer(genesis: bytes, who: DevIdentity, nonce: int, amount: int = MYL, **fields: int) -> Transaction:
    """An immortal transfer to bob (or of him to alice)."""
    dest = ALICE.account if who is BOB else BOB.account
    return sign_call(genesis, who, nonce, Transfer(dest, amount), **fields)


def sign_call(genesis: bytes, who: DevIdentity, nonce: int, call: Call, tip: int = 0) -> Transaction:
    """An immortal transaction."""
    return sign_transaction(TransactionBody(who.account, nonce, call, tip, 0, 0), genesis, genesis, who.account_key)


def make_commit(genesis: bytes, height: int, block_hash: bytes, round_: int = 0) -> Commit:
    """Alice's precommit."""
    payload = compute_vote_bytes(genesis, VoteKind.PRECOMMIT, height, round_, block_hash)
    signature = ALICE.consensus_key.sign(Tag.VOTE_SIGN, payload)
    return Commit(height, round_, block_hash, (CommitSignature(ALICE.consensus_key.public_key, signature),))


@dataclass
class World:
    """A store with a pool, and blocks on demand."""

    path: Path
    genesis: Genesis = field(default_factory=make_genesis)
    retention: Retention = DEFAULT_RETENTION

    def __post_init__(self) -> None:
        self.store = ChainStore(self.path, self.genesis, self.retention)
        self.pool = TransactionPool(self.store, Mempool())

    @property
    def head(self) -> Head:
        """Where the chain stands."""
        return self.store.get_head()

    def transfer(self, nonce: int, who: DevIdentity = ALICE, amount: int = MYL, **fields: int) -> Transaction:
        """See make_transfer."""
        return make_transfer(self.genesis.hash, who, nonce, amount, **fields)

    def build(
        self, transactions: Iterable[Transaction] = (), evidence: tuple[Evidence, ...] = (), now_ms: int = 0
    ) -> ExecutedCandidate:
        """A block on the head, one second after it unless told otherwise."""
        now_ms = now_ms or self.head.time_ms + 1_000
        return build_block(self.store, self.head, PROPOSER, now_ms, evidence, transactions, self.pool.is_signed)

    def finalize(self, candidate: ExecutedCandidate) -> FinalizedBlock:
        """The candidate with its commit, not stored."""
        commit = make_commit(self.genesis.hash, self.head.height + 1, candidate.block_hash)
        return finalize_block(self.store, self.head, candidate, commit)

    def add_block(self, transactions: Iterable[Transaction] = (), **fields: Any) -> FinalizedBlock:
        """Build, finalize, store; the pool follows."""
        done = self.finalize(self.build(transactions, **fields))
        self.store.commit_block(done)
        self.pool.advance(done)
        return done

    def reopen(self, retention: Retention | None = None) -> None:
        """Close the database and open it again, to keep what `retention` says from now on."""
        self.store.close()
        self.retention = retention or self.retention
        self.__post_init__()

    def dump(self) -> dict[bytes, bytes]:
        """The whole state."""
        return dict(self.store.iterate(b""))


__all__ = [
    "ALICE",
    "BOB",
    "DEV_GENESIS_TIME_MS",
    "MYL",
    "PROPOSER",
    "World",
    "make_commit",
    "make_genesis",
    "make_transfer",
]
