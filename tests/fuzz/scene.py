"""What the fuzz targets attack: the recorded chain halfway, on disk and in memory, and valid inputs to start from."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from consensus.runtime.inference import state as inference
from consensus.runtime.validity import build_signature_check
from genesis.dev import DevIdentity, get_dev_identity
from node.chain.blocks import finalize_block, validate_block
from node.store.chain_store import ChainStore
from proto_specs.codec import encode
from proto_specs.types import calls
from proto_specs.types.chain import Block, Commit, Evidence, Transaction, TransactionBody, sign_transaction
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
        self.settlements = [one.body.call for one in self.transactions if isinstance(one.body.call, calls.Settle)]
        self.ids = self._list_ids()
        blocks = sorted(map(encode, self.recording.blocks), key=len)
        self.spoilers: dict[Any, Spoiler] = {
            Transaction: Spoiler(encode_all(self.transactions)),
            Block: Spoiler([*blocks[:: len(blocks) // 12], encode(self.next_block)]),
            Commit: Spoiler(encode_all(self.list_commits())),
            Evidence: Spoiler([encode(one, Evidence) for one in self.list_evidence()]),
        }

        self.fitting: dict[str, list[list[Any]]] = {}

    def close(self) -> None:
        """Release the database."""
        self.store.close()

    @property
    def next_block(self) -> Block:
        """The valid child of the head."""
        return self.recording.blocks[HEIGHT]

    def list_evidence(self) -> list[Evidence]:
        """The recorded evidence."""
        return [one for block in self.recording.blocks for one in block.evidence]

    def list_commits(self) -> list[Commit]:
        """Some recorded commits."""
        return [self.recording.commit_of(height) for height in range(1, len(self.recording.blocks), 20)]

    def find_hash(self, height: int) -> bytes | None:
        """The hash of a recorded block."""
        outcomes = self.recording.outcomes
        return bytes.fromhex(outcomes[height - 1][0]) if 0 < height <= len(outcomes) else None

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
        for call in sorted(get_args(calls.Call), key=str):
            if call.__name__ not in by_call:
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


def encode_all(values: Iterable[Any]) -> list[bytes]:
    """Canonical bytes of each."""
    return [encode(one) for one in values]
