"""A chain of headers, commits and sets for light clients, signed with real keys; and what liars make of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import cache

from consensus.light.skipping import AskBlock, Skipping
from consensus.light.verify import Handover, LightParams, Trusted, make_trusted_genesis
from consensus.runtime.staking.state import validators as validators_item
from consensus.state.tree import EMPTY_ROOT, StateProof, TreeUpdate, prove, update
from proto_specs.codec import encode
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag
from proto_specs.types.chain import (
    Commit,
    CommitSignature,
    Header,
    Validator,
    ValidatorSet,
    VoteKind,
    compute_block_hash,
    compute_validators_hash,
    compute_vote_bytes,
)
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.gossip import LightBlock

GENESIS = bytes(range(32))
START_MS = 1_000_000
INTERVAL_MS = 1_000
PERIOD_MS = 500 * INTERVAL_MS
PARAMS = LightParams(GENESIS, PERIOD_MS)


@cache
def key_of(number: int) -> SigningKey:
    """The consensus key of a validator."""
    return SigningKey.from_seed(number.to_bytes(32, "big"))


KEYS = {key_of(number).public_key: key_of(number) for number in range(64)}


def make_set(powers: dict[int, int]) -> ValidatorSet:
    """Validators by number, ordered by key."""
    members = [Validator(key_of(number).public_key, bytes(32), power) for number, power in powers.items()]
    return ValidatorSet(tuple(sorted(members, key=lambda one: one.key)))


def make_commit(
    header: Header, signers: Iterable[bytes], round_: int = 0, genesis: bytes = GENESIS, height: int | None = None
) -> Commit:
    """Precommits of these keys for the header."""
    height, block_hash = header.height if height is None else height, compute_block_hash(header)
    payload = compute_vote_bytes(genesis, VoteKind.PRECOMMIT, height, round_, block_hash)
    signed = [CommitSignature(key, KEYS[key].sign(Tag.VOTE_SIGN, payload)) for key in sorted(signers)]
    return Commit(height, round_, block_hash, tuple(signed))


def list_keys(validators: ValidatorSet) -> list[bytes]:
    """Everybody of a set."""
    return [one.key for one in validators.members]


class Chain:
    """Blocks 1 to N; block h is decided by `sets[h - 1]`, whom the state after block h - 1 names."""

    def __init__(self, sets: Sequence[ValidatorSet], parent: Chain | None = None) -> None:
        """With a `parent`: another history after the parent's blocks."""
        self.sets = [*(parent.sets if parent else ()), *sets]
        self.blocks: list[LightBlock] = list(parent.blocks) if parent else []
        self.states: list[TreeUpdate] = list(parent.states) if parent else []
        for at in range(len(self.blocks), len(self.sets)):
            self._add(at + 1, self.sets[at], self.sets[min(at + 1, len(self.sets) - 1)], salt=1 if parent else 0)

    def block(self, height: int) -> LightBlock | None:
        """As a source answers."""
        return self.blocks[height - 1] if 1 <= height <= len(self.blocks) else None

    def handover(self, height: int) -> Handover | None:
        """As a source that keeps that state answers."""
        tree = self.states[height - 1]
        return Handover(self.sets[height], prove(tree.node_writes.get, validators_item.key))

    def genesis(self) -> Trusted:
        """What to begin with."""
        return make_trusted_genesis(GENESIS, START_MS, self.sets[0])

    @property
    def now_ms(self) -> int:
        """When the newest block has just come."""
        return self.blocks[-1].header.time_ms

    def _add(self, height: int, deciders: ValidatorSet, successors: ValidatorSet, salt: int) -> None:
        tree = update(lambda path: None, EMPTY_ROOT, [(validators_item.key, encode(successors))])
        parent_hash = compute_block_hash(self.blocks[-1].header) if self.blocks else GENESIS
        header = make_header(height, parent_hash, deciders, tree.root, salt)
        self.states.append(tree)
        self.blocks.append(LightBlock(header, make_commit(header, list_keys(deciders)), deciders))


def make_header(height: int, parent_hash: bytes, deciders: ValidatorSet, state_root: bytes, salt: int = 0) -> Header:
    """A header of what a light client looks at."""
    return Header(
        height=height,
        parent_hash=parent_hash,
        time_ms=START_MS + height * INTERVAL_MS,
        proposer=deciders.members[0].key,
        vrf_proof=bytes(80),
        validators_hash=compute_validators_hash(deciders),
        last_commit_hash=ZERO_HASH,
        body_root=salt.to_bytes(32, "big"),
        state_root=state_root,
        receipts_root=ZERO_HASH,
    )


def forge(
    height: int, signers: ValidatorSet, signing: Iterable[bytes] | None = None, round_: int = 0, **fields: object
) -> LightBlock:
    """A block that no chain has, signed by a set its makers chose (all of it, or those named)."""
    header = make_header(height, b"\xaa" * 32, signers, b"\xbb" * 32)
    header = dataclasses.replace(header, **fields)  # type: ignore[arg-type]
    keys = list_keys(signers) if signing is None else signing
    return LightBlock(header, make_commit(header, keys, round_), signers)


def follow(
    chain: Chain, start: Trusted, target: int, now_ms: int, params: LightParams = PARAMS, keeps_states: bool = True
) -> Skipping:
    """The whole way, answered by one source."""
    return go_on(Skipping(start, target, params), chain, now_ms, keeps_states)


def go_on(way: Skipping, chain: Chain, now_ms: int, keeps_states: bool = True) -> Skipping:
    """Answer until it is done."""
    while way.ask is not None:
        if isinstance(way.ask, AskBlock):
            way.take_block(chain.block(way.ask.height), now_ms)
        else:
            way.take_handover(chain.handover(way.ask.height) if keeps_states else None, now_ms)
    return way


NO_PROOF = StateProof(())
