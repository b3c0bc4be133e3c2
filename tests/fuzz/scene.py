"""What the fuzz targets attack: the recorded chain halfway, on disk and in memory, and valid inputs to start from."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from consensus.runtime.balances.state import read_account
from consensus.runtime.dispatch import HANDLERS
from consensus.runtime.inference import state as inference
from consensus.runtime.validity import build_signature_check
from consensus.state.reader import StateReader
from genesis.dev import DevIdentity, get_dev_identity
from node.chain.blocks import finalize_block, validate_block
from node.store.chain_store import ChainStore
from proto_specs.codec import encode, is_variant
from proto_specs.hashing import Tag
from proto_specs.types import calls
from proto_specs.types.chain import Block, Commit, DuplicateVote, Transaction, TransactionBody, sign_transaction
from proto_specs.types.request import (
    SignedStageRoots,
    compute_request_id,
    sign_order,
    sign_stage_roots,
    sign_voucher,
)
from tests.determinism.follower import Follower
from tests.determinism.recording import Recording, load
from tests.determinism.story import PEOPLE, VALIDATORS
from tests.fuzz.mutate import Spoiler
from tests.fuzz.values import Changer
from tests.property.proto_specs.shapes import make_smallest

HEIGHT = 70
"""Where the node stands whose pool, head and RPC are attacked."""

MOMENTS = (2, 30, HEIGHT, 110, 152)
"""Heights whose state calls are executed on."""

UNSEEN: frozenset[str] = frozenset(
    one.__name__ for one in vars(calls).values() if isinstance(one, type) and is_variant(one) and one not in HANDLERS
)
"""Calls without a handler: decoded, never executed. Empty once every module is there."""


@dataclass(frozen=True, slots=True)
class Moment:
    """The chain after a block: its state's items, and who called what in the blocks that follow."""

    height: int
    time_ms: int
    block_hash: bytes
    items: dict[bytes, bytes]
    following: tuple[tuple[bytes, Any], ...]


class Scene:
    """Built once in each process; nothing that is attacked changes it."""

    def __init__(self, folder: Path) -> None:
        self.recording: Recording = load()
        self.genesis = self.recording.build_genesis()
        names = (*VALIDATORS, *PEOPLE, "judy")
        self.people: dict[bytes, DevIdentity] = {one.account: one for one in map(get_dev_identity, names)}
        self.by_key: dict[bytes, DevIdentity] = {}
        for one in (*self.people.values(), get_dev_identity("spare")):
            self.by_key[one.worker_key.public_key] = one
            self.by_key[one.consensus_key.public_key] = one
        self.session_key = get_dev_identity("session").account_key
        self.moments: dict[int, Moment] = {}
        self._follow()
        self.store = self._fill_store(folder)
        self.transactions = self._list_transactions()
        self.ids = self._list_ids()
        blocks = sorted(map(encode, self.recording.blocks), key=len)
        self.spoilers: dict[type, Spoiler] = {
            Transaction: Spoiler(encode_all(self.transactions)),
            Block: Spoiler([*blocks[:: len(blocks) // 12], encode(self.next_block)]),
            Commit: Spoiler(encode_all(self.list_commits())),
            DuplicateVote: Spoiler(encode_all(self.list_evidence())),
        }

    def close(self) -> None:
        """Release the database."""
        self.store.close()

    @property
    def next_block(self) -> Block:
        """The valid child of the head."""
        return self.recording.blocks[HEIGHT]

    def list_evidence(self) -> list[DuplicateVote]:
        """The recorded evidence."""
        return [one for block in self.recording.blocks for one in block.evidence]

    def list_commits(self) -> list[Commit]:
        """Some recorded commits."""
        return [self.recording.commit_of(height) for height in range(1, len(self.recording.blocks), 20)]

    def _follow(self) -> None:
        follower = Follower(self.genesis)
        for block in self.recording.blocks:
            if follower.height in MOMENTS:
                height = follower.height
                following = tuple(
                    (one.body.signer, one.body.call)
                    for later in self.recording.blocks[height : height + 45]
                    for one in later.transactions
                )
                self.moments[height] = Moment(
                    height, follower.time_ms, follower.block_hash, dict(follower.state.items), following
                )
            follower.apply(block)

    def _fill_store(self, folder: Path) -> ChainStore:
        store = ChainStore(folder, self.genesis)
        is_signed = build_signature_check(self.genesis.hash)
        for height in range(1, HEIGHT + 1):
            head, block = store.get_head(), self.recording.blocks[height - 1]
            made = validate_block(store, head, block, block.header.time_ms, is_signed)
            store.commit_block(finalize_block(store, head, made, self.recording.commit_of(height)))
        return store

    def _list_transactions(self) -> list[Transaction]:
        """Up to eight recorded ones of every call, and one of every call that is not on the recorded chain."""
        by_call: dict[str, list[Transaction]] = {}
        for block in self.recording.blocks:
            for one in block.transactions:
                by_call.setdefault(type(one.body.call).__name__, []).append(one)
        found = [one for name in sorted(by_call) for one in by_call[name][:8]]
        changer = Changer(random.Random(1), ())
        bob = get_dev_identity("bob")
        for call in sorted(vars(calls).values(), key=str):
            if isinstance(call, type) and is_variant(call) and call.__name__ not in by_call:
                for made in (make_smallest(call), changer.make(call)):
                    found.append(self.sign(TransactionBody(bob.account, 0, made, 0, 0, 0), bob))
        return found

    def _list_ids(self) -> list[bytes]:
        """Accounts, keys, models, sessions, requests and challenges that exist at some moment; and nobody."""
        found = [*self.people, *self.by_key, bytes([7]) * 32]
        for height in sorted(self.moments):
            items = self.moments[height].items
            for map_ in (inference.models, inference.sessions, inference.requests, inference.challenges):
                found += [key[len(map_.prefix) :] for key in sorted(items) if key.startswith(map_.prefix)]
        return list(dict.fromkeys(found))

    def sign(self, body: TransactionBody, who: DevIdentity, birth_hash: bytes | None = None) -> Transaction:
        """The body signed with somebody's key for this chain."""
        return sign_transaction(body, self.genesis.hash, birth_hash or self.genesis.hash, who.account_key)


class Forger:
    """Makes transactions that are wrong in what they say and right in who says it."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self._scene = scene
        self._rng = rng
        self._changer = Changer(rng, scene.ids)

    def forge(self, state: StateReader, height: int, signer: bytes, call: Any, waiting: int = 0) -> Transaction:
        """A transaction for block `height + 1`, mostly with one thing wrong; `waiting` of its signer are before it."""
        rng, scene = self._rng, self._scene
        if rng.random() < 0.75:
            call = self.resign(signer, self._changer.change(call, calls.Call))
        if rng.random() < 0.1:
            signer = rng.choice(list(scene.people))
        who = scene.people.get(signer) or get_dev_identity("bob")
        nonce = read_account(state, who.account).nonce + waiting
        if rng.random() < 0.06:
            nonce = rng.choice((nonce - 1, nonce + 1, nonce + 63, nonce + 70, 0, (1 << 64) - 1))
        tip = rng.choice((0, 1, 10**6, 10**15, 1 << 63, (1 << 64) - 1)) if rng.random() < 0.15 else rng.randrange(100)
        birth = period = 0
        if rng.random() < 0.2:
            birth = rng.choice((height, height, max(height - 3, 0), height + 1, 0, 1 << 62, (1 << 64) - 1))
            period = rng.choice((1, 4, 64, 4_096, 4_097, (1 << 32) - 1))
        body = TransactionBody(who.account, max(nonce, 0) % (1 << 64), call, tip, birth, period)
        made = scene.sign(body, who, self._find_hash(birth) if period else None)
        if rng.random() < 0.02:
            made = replace(made, signature=rng.choice((bytes(64), made.signature[:63] + b"\xff", rng.randbytes(64))))
        return made

    def make(self) -> Any:
        """A call made of nothing but boundaries and known ids."""
        return self._changer.make(calls.Call)

    def resign(self, signer: bytes, call: Any) -> Any:
        """Signatures inside a call made right again, so that what was changed is looked at."""
        rng, scene = self._rng, self._scene
        if rng.random() < 0.15:
            return call
        match call:
            case calls.RegisterWorker(worker_key=key) if key in scene.by_key:
                proof = scene.by_key[key].worker_key.sign(Tag.KEY_PROOF_SIGN, signer)
                return replace(call, key_proof=proof)
            case calls.RegisterValidator(consensus_key=key) if key in scene.by_key:
                proof = scene.by_key[key].consensus_key.sign(Tag.KEY_PROOF_SIGN, signer)
                return replace(call, key_proof=proof)
            case calls.Settle():
                return self._resign_settlement(call)
        return call

    def _resign_settlement(self, call: calls.Settle) -> calls.Settle:
        order, key = call.order.order, self._scene.session_key
        request = compute_request_id(order)
        roots: list[SignedStageRoots] = []
        for index, one in enumerate(call.stage_roots):
            worker = order.path[index].worker if index < len(order.path) else b""
            if worker in self._scene.by_key:
                one = sign_stage_roots(replace(one.roots, request=request), self._scene.by_key[worker].worker_key)
            roots.append(one)
        voucher = replace(call.voucher.voucher, request=request)
        return calls.Settle(sign_order(order, key), sign_voucher(voucher, key), tuple(roots))

    def _find_hash(self, height: int) -> bytes | None:
        outcomes = self._scene.recording.outcomes
        return bytes.fromhex(outcomes[height - 1][0]) if 0 < height <= len(outcomes) else None


def encode_all(values: Iterable[Any]) -> list[bytes]:
    """Canonical bytes of each."""
    return [encode(one) for one in values]
