"""The head of the chain, blocks executed on it, and how a block becomes the next head. Knows no votes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from node.chain.blocks import BlockInvalid, ExecutedCandidate, Proposer, build_block, finalize_block, validate_block
from node.chain.pool import TransactionPool
from node.replica.world import World
from node.signatures.jobs import SignatureJob
from node.signer.signer import SignerUnreachable
from node.store.chain_store import ChainStore, FinalizedBlock, Head
from proto_specs.types.chain import Block, Commit, Evidence, compute_block_hash

logger = logging.getLogger("myelin.consensus")

Reason = str | None
"""Why a block is invalid; None when it is valid."""

CANDIDATES_MAX = 16
"""Executed blocks of one height kept in memory. More exist only with many rounds, or with proposers that equivocate."""


class ChainTip:
    """Executes and stores. One of `build`, `validate` and `finalize` at a time; each answers through its callback."""

    def __init__(
        self,
        store: ChainStore,
        pool: TransactionPool,
        world: World,
        on_finalized: Callable[[FinalizedBlock], None],
    ) -> None:
        self._store = store
        self._pool = pool
        self._world = world
        self._on_finalized = on_finalized
        self._candidates: dict[bytes, ExecutedCandidate] = {}
        self._is_working = False

    @property
    def head(self) -> Head:
        """The last finalized block, and the validators of the next."""
        return self._store.get_head()

    @property
    def commit(self) -> Commit | None:
        """The stored commit that decided the head; None at genesis."""
        return self._store.get_commit(self.head.height)

    def build(
        self,
        proposer: Proposer,
        evidence: tuple[Evidence, ...],
        last_commit: Commit | None,
        then: Callable[[ExecutedCandidate | None], None],
    ) -> None:
        """Build the best block this node can propose on the head; None while the signer cannot be reached."""
        self._begin()
        job = partial(
            build_block,
            self._store,
            self.head,
            proposer,
            self._world.read_clock_ms(),
            evidence,
            tuple(self._pool.select()),
            self._pool.is_signed,
            last_commit,
        )

        def done(made: ExecutedCandidate | None) -> None:
            self._is_working = False
            if made is not None:
                self._remember(made)
            then(made)

        self._world.start_job(partial(_build_if_reachable, job), done)

    def validate(self, block: Block, then: Callable[[Reason], None]) -> None:
        """Check whether a block can follow the head. A block that was executed before is not executed again."""
        now_ms = self._world.read_clock_ms()
        self._execute(block, now_ms, lambda found: then(found if isinstance(found, str) else None))

    def finalize(self, block: Block, commit: Commit, then: Callable[[Reason], None]) -> None:
        """Make a block the head, on disk. The caller has checked that `commit` decides it."""
        head = self.head

        def executed(found: ExecutedCandidate | str) -> None:
            if isinstance(found, str):
                then(found)
                return
            self._begin()
            finalized = finalize_block(self._store, head, found, commit)
            self._world.start_job(partial(self._store.commit_block, finalized), lambda _: self._follow(finalized, then))

        self._execute(block, None, executed)

    def _follow(self, finalized: FinalizedBlock, then: Callable[[Reason], None]) -> None:
        self._is_working = False
        self._candidates.clear()
        self._pool.advance(finalized)
        self._on_finalized(finalized)
        count, head = len(finalized.block.transactions), finalized.head
        logger.info("block %d %s: %d transactions", head.height, head.block_hash.hex()[:12], count)
        then(None)

    def _execute(self, block: Block, now_ms: int | None, then: Callable[[ExecutedCandidate | str], None]) -> None:
        """Take the block from memory if it was built or checked before; else check its signatures and execute it."""
        found = self._candidates.get(compute_block_hash(block.header))
        if found is not None:
            then(found)
            return
        self._begin()

        def check(unseen: list[tuple[tuple[bytes, bytes], SignatureJob]]) -> None:
            keys = [key for key, _ in unseen]
            self._world.check_signatures([job for _, job in unseen], partial(validate, keys))

        def validate(keys: list[tuple[bytes, bytes]], answers: list[bool]) -> None:
            for key, is_valid in zip(keys, answers, strict=True):
                if is_valid:
                    self._pool.remember_signed(key)
            self._world.start_job(partial(self._validate, block, now_ms), done)

        def done(result: ExecutedCandidate | str) -> None:
            self._is_working = False
            if isinstance(result, ExecutedCandidate):
                self._remember(result)
            then(result)

        self._world.start_job(partial(self._pool.list_unseen, block.transactions), check)

    def _validate(self, block: Block, now_ms: int | None) -> ExecutedCandidate | str:
        try:
            return validate_block(self._store, self.head, block, now_ms, self._pool.is_signed)
        except BlockInvalid as error:
            return str(error)

    def _remember(self, made: ExecutedCandidate) -> None:
        self._candidates[made.block_hash] = made
        while len(self._candidates) > CANDIDATES_MAX:
            del self._candidates[next(iter(self._candidates))]

    def _begin(self) -> None:
        assert not self._is_working, "one block is worked on at a time"
        self._is_working = True


def _build_if_reachable(build: Callable[[], ExecutedCandidate]) -> ExecutedCandidate | None:
    try:
        return build()
    except SignerUnreachable as error:
        logger.warning("no block is proposed: %s", error)
        return None
