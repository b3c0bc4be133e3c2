"""What is attacked, and what may come of it: typed refusals, or acceptance that holds up. Everything else is a finding.

A target is made anew for each chunk of cases, so a case replays from its chunk's start. `run` tells what became of a
case; it raises for a finding.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import proto_specs
from consensus.beacon import prove_beacon
from consensus.runtime.balances.state import read_account
from consensus.runtime.context import BlockContext
from consensus.runtime.errors import BlockError, InvalidTransaction
from consensus.runtime.executive import execute_block
from consensus.runtime.receipts import Receipt
from consensus.runtime.staking.state import read_validators
from consensus.runtime.validity import build_signature_check
from consensus.state.reader import DictState
from consensus.state.tree import EMPTY_ROOT, update
from genesis.dev import DevIdentity
from node.chain.blocks import BlockInvalid, Proposer, build_block, validate_block
from node.chain.mempool import AlreadyKnown, Mempool
from node.chain.pool import TransactionPool
from proto_specs.codec import decode, decode_as, encode
from proto_specs.errors import DecodeError
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import (
    Block,
    Commit,
    CommitSignature,
    DuplicateProposal,
    DuplicateVote,
    Evidence,
    ProposalHead,
    ProposalSignBytes,
    Transaction,
    Vote,
    VoteKind,
    compute_body_root,
    compute_commit_hash,
    compute_vote_bytes,
)
from tests.fuzz.forge import Forger
from tests.fuzz.mutate import Spoiler
from tests.fuzz.scene import HEIGHT, Scene
from tests.fuzz.values import Changer
from tests.unit.consensus.runtime.chain import check_invariants

_PAGE = (Path(proto_specs.__file__).parent / "rpc.md").read_text("utf-8")
REASONS = frozenset(re.findall(r"^\| `(\w+)` ", _PAGE[_PAGE.index("| reason | why |") :], re.MULTILINE))
POOL_TRANSACTIONS_MAX, POOL_BYTES_MAX = 120, 40_000


class Target(Protocol):
    """One chunk's worth of state under attack."""

    def run(self, rng: random.Random) -> str:
        """One case. What became of it; raises for a finding."""

    def finish(self) -> None:
        """What has to hold after a chunk."""


def _blur(text: str) -> str:
    """A refusal's text without what differs from case to case."""
    return re.sub(r"[0-9a-f…]{6,}|\d+", "N", text)[:60]


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
            value: object = decode_as(as_type, data)
        except DecodeError:
            return "refused"
        assert encode(value, as_type) == data, "what was accepted is not the encoding of what was read"
        return f"accepted {type(value).__name__}"

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
        try:
            extrinsic = self._pool.submit(made)
        except AlreadyKnown:
            return "waits already"  # the RPC answers such a one with its hash
        except InvalidTransaction as error:
            if error.reason not in REASONS:
                raise AssertionError(f"{error.reason} is not documented in rpc.md") from error
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
        store, waiting = self._scene.store, Counter[bytes]()
        if rng.random() < 0.8:
            waiting[signer] = self._pool.get_next_nonce(signer) - read_account(store, signer).nonce
        return forger.forge(store, HEIGHT, signer, call, waiting)

    def finish(self) -> None:
        """What the pool took makes a block that validates to the same."""
        store, head = self._scene.store, self._scene.store.get_head()
        key = head.rotation.get_proposer()
        proposer = Proposer(key, partial(prove_beacon, self._scene.by_key[key].consensus_key.seed))
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
        forger, waiting = Forger(self._scene, rng), Counter[bytes]()
        made: list[Transaction] = []
        for _ in range(rng.choice((1, 1, 1, 2))):
            one = self._forge(rng, forger, waiting)
            waiting[one.body.signer] += 1
            made.append(one)
        context, evidence = self._make_context(rng), self._accuse(rng)
        try:
            executed = execute_block(self._state, context, evidence, made)
        except BlockError as error:
            return f"invalid: {_blur(str(error))}"
        assert execute_block(self._state, context, evidence, made) == executed, "the same block gave another result"
        tree = update(self._pages.get, self._root, executed.changes)
        self._root = tree.root
        self._pages.update(tree.node_writes)
        self._state.apply(executed.changes)
        check_invariants(self._state)
        for told in executed.receipts:
            assert decode(Receipt, encode(told)) == told
        self._height, self._time_ms, self._parent = self._height + 1, context.time_ms, context.beacon
        receipt = executed.receipts[-1]
        name = type(made[-1].body.call).__name__
        return f"{name}: {receipt.error.error if receipt.error else 'done'}"

    def _forge(self, rng: random.Random, forger: Forger, waiting: Counter[bytes]) -> Transaction:
        choice, fitting = rng.random(), None
        if choice < 0.1:
            fitting = rng.choice(list(self._scene.people)), forger.make()
        elif choice < 0.5:
            fitting = forger.fit(self._state)
        elif choice < 0.85 and self._script:
            fitting = self._script.pop(0)
        signer, call = fitting or rng.choice(self._moment.following)
        return forger.forge(self._state, self._height, signer, call, waiting)

    def _accuse(self, rng: random.Random) -> tuple[Evidence, ...]:
        """Now and then somebody is said to have signed twice, mostly with a right proof."""
        if rng.random() > 0.03:
            return ()
        who = rng.choice(list(self._scene.people.values()))
        height = rng.choice((self._height, self._height, max(self._height - 30, 0), self._height + 5))
        votes = []
        for mark in (1, 2):
            payload = compute_vote_bytes(self._scene.genesis.hash, VoteKind.PREVOTE, height, 0, bytes([mark]) * 32)
            signature = who.consensus_key.sign(Tag.VOTE_SIGN, payload)
            key = who.consensus_key.public_key
            votes.append(Vote(VoteKind.PREVOTE, height, 0, bytes([mark]) * 32, key, signature))
        made: Evidence = DuplicateVote(votes[0], votes[1])
        if rng.random() < 0.5:
            made = self._accuse_of_proposals(who, height)
        if rng.random() < 0.3:
            made = Changer(rng, self._scene.ids).change(made, type(made))
        return (made,) * rng.choice((1, 1, 1, 2))

    def _accuse_of_proposals(self, who: DevIdentity, height: int) -> DuplicateProposal:
        heads = []
        for mark in (1, 2):
            content = height, 0, None, bytes([mark]) * 32, bytes(32), 1
            payload = encode(ProposalSignBytes(self._scene.genesis.hash, *content))
            signature = who.consensus_key.sign(Tag.PROPOSAL_SIGN, payload)
            heads.append(ProposalHead(*content, who.consensus_key.public_key, signature))
        return DuplicateProposal(heads[0], heads[1])

    def _make_context(self, rng: random.Random) -> BlockContext:
        """The next block's, with a commit of some of the validators, whose signatures nobody looks at here."""
        height, members = self._height + 1, read_validators(self._state).members
        signed = tuple(CommitSignature(one.key, bytes(64)) for one in members if rng.random() < 0.8)
        return BlockContext(
            height=height,
            time_ms=self._time_ms + 1_000,
            proposer=rng.choice(members).key,
            beacon=hash_tagged(Tag.BEACON, self._parent),
            genesis=self._scene.genesis.hash,
            parent_hash=self._parent,
            last_commit=Commit(self._height, 0, self._parent, signed),
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
        now_ms = self._scene.next_block.header.time_ms
        try:
            made = validate_block(self._scene.store, self._head, block, now_ms, self._check)
        except BlockInvalid as error:
            return f"invalid: {_blur(str(error))}"
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
                evidence.append(changer.change(rng.choice(self._scene.list_evidence()), Evidence))
            case 1 if commit is not None:
                commit = changer.change(commit, Commit)
            case _:
                signer, call = rng.choice(self._scene.moments[HEIGHT].following)
                before = Counter(one.body.signer for one in transactions)
                transactions.append(forger.forge(self._scene.store, HEIGHT, signer, call, before))
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
