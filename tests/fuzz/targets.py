"""What is attacked, and what may come of it: typed refusals, or acceptance that holds up. Everything else is a finding.

A target is made anew for each chunk of cases, so a case replays from its chunk's start. `run` tells what became of a
case; it raises for a finding.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import proto_specs
from consensus.runtime.context import BlockContext
from consensus.runtime.dispatch import HANDLERS
from consensus.runtime.errors import BlockError, InvalidTransaction
from consensus.runtime.executive import execute_block
from consensus.runtime.staking.state import read_validators
from consensus.runtime.validity import build_signature_check
from consensus.state.reader import DictState
from consensus.state.tree import EMPTY_ROOT, update
from node.chain.blocks import BlockInvalid, Proposer, build_block, validate_block
from node.chain.pool import TransactionPool
from node.mempool import Mempool
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import (
    Block,
    Commit,
    DuplicateVote,
    Transaction,
    compute_body_root,
    compute_commit_hash,
)
from tests.fuzz.mutate import Spoiler
from tests.fuzz.scene import HEIGHT, Forger, Scene
from tests.fuzz.values import Changer
from tests.unit.consensus.runtime.chain import check_invariants

_PAGE = (Path(proto_specs.__file__).parent / "rpc.md").read_text("utf-8")
REASONS = frozenset(re.findall(r"`(\w+)`", _PAGE[_PAGE.index("`reason` is one of") :]))
POOL_TRANSACTIONS_MAX, POOL_BYTES_MAX = 120, 40_000


class Target(Protocol):
    """One chunk's worth of state under attack."""

    def run(self, rng: random.Random) -> str:
        """One case. What became of it; raises for a finding."""

    def finish(self) -> None:
        """What has to hold after a chunk."""


class DecodeTarget:
    """Spoiled bytes of transactions, blocks, commits and evidence: refused with DecodeError, or a value whose encoding
    they are."""

    def __init__(self, scene: Scene) -> None:
        self._spoilers = list(scene.spoilers.items())

    def run(self, rng: random.Random) -> str:
        """Decode one byte string."""
        as_type, spoiler = rng.choice(self._spoilers)
        data = spoiler.spoil(rng)
        try:
            value = decode(as_type, data)
        except DecodeError:
            return "refused"
        assert encode(value) == data, "what was accepted is not the encoding of what was read"
        return f"accepted {as_type.__name__}"

    def finish(self) -> None:
        """Nothing is kept."""


class PoolTarget:
    """Forged and spoiled transactions to a pool over a real store. The pool stays in bounds, and makes a block."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._mempool = Mempool(POOL_TRANSACTIONS_MAX, POOL_BYTES_MAX)
        self._pool = TransactionPool(scene.store, self._mempool)
        self._spoiler = scene.spoilers[Transaction]

    def run(self, rng: random.Random) -> str:
        """Submit one transaction."""
        if rng.random() < 0.3:
            try:
                made = decode(Transaction, self._spoiler.spoil(rng))
            except DecodeError:
                return "no transaction"
        else:
            made = self._forge(rng)
        if type(made.body.call) not in HANDLERS:
            return "no handler yet"
        try:
            extrinsic = self._pool.submit(made)
        except InvalidTransaction as error:
            assert error.reason in REASONS, f"{error.reason} is not documented in rpc.md"
            return error.reason
        assert extrinsic in self._pool
        assert len(self._pool) <= POOL_TRANSACTIONS_MAX
        assert self._mempool.size_bytes <= POOL_BYTES_MAX
        return "taken"

    def _forge(self, rng: random.Random) -> Transaction:
        forger, moment = Forger(self._scene, rng), self._scene.moments[HEIGHT]
        signer, call = rng.choice(moment.following)
        if rng.random() < 0.2:
            signer, call = rng.choice(list(self._scene.people)), forger.make()
        made = forger.forge(self._scene.store, HEIGHT, signer, call)
        waiting = self._pool.get_next_nonce(made.body.signer) - made.body.nonce
        if waiting > 0 and rng.random() < 0.7:
            made = forger.forge(self._scene.store, HEIGHT, made.body.signer, made.body.call, waiting)
        return made

    def finish(self) -> None:
        """What the pool took makes a block that validates to the same."""
        store, head = self._scene.store, self._scene.store.get_head()
        key = head.rotation.get_proposer()
        proposer = Proposer(key, self._scene.by_key[key].consensus_key.seed)
        now_ms = head.time_ms + 1_000
        built = build_block(store, head, proposer, now_ms, (), self._pool.select(), self._pool.is_signed)
        check = build_signature_check(store.genesis_hash)
        assert validate_block(store, head, decode(Block, encode(built.block)), now_ms, check) == built
        after = DictState(dict(store.iterate(b"")))
        after.apply(built.executed.changes)
        check_invariants(after)


class ExecuteTarget:
    """Forged transactions executed one by one on a chain that follows the recorded one's calls, wrongly. After each
    block the money adds up, the block done again is the same, and a refused one has changed nothing."""

    def __init__(self, scene: Scene, moment: int) -> None:
        self._scene = scene
        self._moment = scene.moments[moment]
        self._state = DictState(self._moment.items)
        self._height, self._time_ms = self._moment.height, self._moment.time_ms
        self._parent = self._moment.block_hash
        self._script = list(self._moment.following)
        tree = update(lambda path: None, EMPTY_ROOT, sorted(self._state.items.items()))
        self._root, self._pages = tree.root, dict(tree.node_writes)

    def run(self, rng: random.Random) -> str:
        """One block of one or two transactions."""
        forger = Forger(self._scene, rng)
        made = [self._forge(rng, forger, 0)]
        if rng.random() < 0.2:
            made.append(self._forge(rng, forger, sum(one.body.signer == made[0].body.signer for one in made)))
        made = [one for one in made if type(one.body.call) in HANDLERS]
        if not made:
            return "no handler yet"
        context = self._make_context()
        try:
            executed = execute_block(self._state, context, (), made)
        except BlockError as error:
            return f"invalid: {str(error).split(': ')[1]}"
        assert execute_block(self._state, context, (), made) == executed, "the same block gave another result"
        tree = update(self._pages.get, self._root, executed.changes)
        self._root = tree.root
        self._pages.update(tree.node_writes)
        self._state.apply(executed.changes)
        check_invariants(self._state)
        for one in executed.receipts:
            assert decode(type(one), encode(one)) == one
        self._height, self._time_ms, self._parent = self._height + 1, context.time_ms, context.beacon
        receipt = executed.receipts[-1]
        name = type(made[-1].body.call).__name__
        return f"{name}: {receipt.error.error if receipt.error else 'done'}"

    def _forge(self, rng: random.Random, forger: Forger, waiting: int) -> Transaction:
        signer, call = rng.choice(list(self._scene.people)), None
        if rng.random() < 0.12:
            call = forger.make()
        elif rng.random() < 0.7 and self._script:
            signer, call = self._script.pop(0)
        else:
            signer, call = rng.choice(self._moment.following)
        return forger.forge(self._state, self._height, signer, call, waiting)

    def _make_context(self) -> BlockContext:
        height = self._height + 1
        return BlockContext(
            height=height,
            time_ms=self._time_ms + 1_000,
            proposer=read_validators(self._state).members[0].key,
            beacon=hash_tagged(Tag.BEACON, self._parent),
            genesis=self._scene.genesis.hash,
            parent_hash=self._parent,
            last_commit=None,
        )

    def finish(self) -> None:
        """The root kept block by block is that of the items."""
        assert update(lambda path: None, EMPTY_ROOT, sorted(self._state.items.items())).root == self._root


class BlockTarget:
    """Blocks on a real head: bytes spoiled, fields changed, bodies forged under a right header. The roots of the header
    allow one child only."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._head = scene.store.get_head()
        self._spoiler = Spoiler([encode(scene.next_block)])
        self._check = build_signature_check(scene.genesis.hash)

    def run(self, rng: random.Random) -> str:
        """Decode and validate one block."""
        choice = rng.random()
        if choice < 0.4:
            try:
                block = decode(Block, self._spoiler.spoil(rng))
            except DecodeError:
                return "no block"
        elif choice < 0.7:
            block = self._change(rng, self._scene.next_block)
        else:
            block = self._seal(self._forge(rng))
        if any(type(one.body.call) not in HANDLERS for one in block.transactions):
            return "no handler yet"
        now_ms = self._scene.next_block.header.time_ms
        try:
            made = validate_block(self._scene.store, self._head, block, now_ms, self._check)
        except BlockInvalid as error:
            text = str(error)
            return "invalid: " + re.sub(r"[0-9a-f…]{6,}|\d+", "N", text)[:60]
        assert block == self._scene.next_block, "a second valid child under the same roots"
        assert decode(Block, encode(block)) == made.block
        return "valid"

    def _change(self, rng: random.Random, block: Block) -> Block:
        changer = Changer(rng, self._scene.ids)
        for _ in range(rng.choice((1, 1, 2))):
            block = changer.change(block, Block)
        return self._seal(block) if rng.random() < 0.5 else block

    def _forge(self, rng: random.Random) -> Block:
        """Other transactions, evidence or commits in the block's place."""
        block, forger = self._scene.next_block, Forger(self._scene, rng)
        changer = Changer(rng, self._scene.ids)
        transactions, evidence, commit = list(block.transactions), list(block.evidence), block.last_commit
        match rng.randrange(4):
            case 0:
                evidence.append(changer.change(rng.choice(self._scene.list_evidence()), DuplicateVote))
            case 1 if commit is not None:
                commit = changer.change(commit, Commit)
            case _:
                signer, call = rng.choice(self._scene.moments[HEIGHT].following)
                transactions.append(forger.forge(self._scene.store, HEIGHT, signer, call))
        return Block(block.header, tuple(evidence), tuple(transactions), commit)

    def _seal(self, block: Block) -> Block:
        """The header made to fit the body again, so that the body is looked at; the roots stay as they are."""
        body_root = compute_body_root(block.evidence, block.transactions)
        commit_hash = compute_commit_hash(block.last_commit)
        return replace(block, header=replace(block.header, body_root=body_root, last_commit_hash=commit_hash))

    def finish(self) -> None:
        """The valid block is valid still."""
        block = self._scene.next_block
        validate_block(self._scene.store, self._head, block, block.header.time_ms, self._check)
