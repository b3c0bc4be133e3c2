"""Validators sign a header that was never a block's, to show light clients and joining nodes a chain of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from consensus.bft.evidence import get_accused, get_offence_height
from consensus.light.attack import AttackKind, classify_attack, list_double_votes, list_evidence, make_attack
from consensus.runtime.errors import BlockError
from consensus.runtime.staking import state as staking
from consensus.runtime.staking import turns
from consensus.runtime.staking.events import ValidatorSlashed
from consensus.runtime.staking.slashing import validate_evidence
from genesis.dev import DevIdentity, get_dev_identity
from proto_specs.codec import decode_as, encode
from proto_specs.hashing import Tag
from proto_specs.types.chain import (
    Commit,
    CommitSignature,
    Evidence,
    FalseVote,
    Header,
    Validator,
    ValidatorSet,
    Vote,
    VoteKind,
    compute_block_hash,
    compute_validators_hash,
    compute_vote_bytes,
)
from proto_specs.types.gossip import LightBlock
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking.staking_world import build_spec

NAMES = ("alice", "bob", "charlie", "dave")
LIARS = tuple(get_dev_identity(name) for name in ("bob", "charlie"))
"""Half of the power: more than the third that a light client asks for."""
HEIGHT = 5


def make_chain() -> Chain:
    chain = Chain(build_spec(NAMES))
    chain.skip(HEIGHT + 2)
    return chain


def make_header(chain: Chain, **fields: object) -> Header:
    """The header of a block at `HEIGHT` that could have been one, but for these fields."""
    header = Header(
        height=HEIGHT,
        parent_hash=chain.block_hash(HEIGHT - 1),
        time_ms=chain.spec.genesis_time_ms + HEIGHT * 1_000,
        proposer=LIARS[0].consensus_key.public_key,
        vrf_proof=bytes(80),
        validators_hash=compute_validators_hash(staking.read_validators(chain.state)),
        last_commit_hash=bytes(32),
        body_root=bytes(32),
        state_root=b"\x07" * 32,
        receipts_root=bytes(32),
    )
    return replace(header, **fields)  # type: ignore[arg-type]


def sign(chain: Chain, header: Header, who: DevIdentity, round_: int, kind: VoteKind = VoteKind.PRECOMMIT) -> Vote:
    block_hash = compute_block_hash(header)
    payload = compute_vote_bytes(chain.genesis.hash, kind, HEIGHT, round_, block_hash)
    key = who.consensus_key
    return Vote(kind, HEIGHT, round_, block_hash, key.public_key, key.sign(Tag.VOTE_SIGN, payload))


def make_block(
    chain: Chain, header: Header, signers: Sequence[DevIdentity], round_: int, own: ValidatorSet
) -> LightBlock:
    votes = sorted((sign(chain, header, one, round_) for one in signers), key=lambda one: one.validator)
    signatures = tuple(CommitSignature(one.validator, one.signature) for one in votes)
    return LightBlock(header, Commit(HEIGHT, round_, compute_block_hash(header), signatures), own)


def make_lunacy(chain: Chain) -> tuple[Evidence, ...]:
    """What a light client finds that was shown a set nobody elected, of two liars, with invented roots."""
    elected = staking.read_validators(chain.state)
    members = tuple(Validator(one.consensus_key.public_key, one.account, 1) for one in LIARS)
    invented = ValidatorSet(tuple(sorted(members, key=lambda one: one.key)))
    true = make_block(
        chain, make_header(chain, state_root=bytes(32)), [get_dev_identity(one) for one in NAMES], 0, elected
    )
    false = make_header(chain, validators_hash=compute_validators_hash(invented))
    attack = make_attack(1, bytes(32), true, make_block(chain, false, LIARS, 1, invented))
    assert classify_attack(attack) is AttackKind.LUNATIC
    assert list_double_votes(attack) == (), "another round: before, there was nothing to punish in it"
    return list_evidence(attack)


def list_convicting(chain: Chain, evidence: Sequence[Evidence]) -> list[Evidence]:
    found = []
    for one in evidence:
        try:
            validate_evidence(chain.state, one, chain.genesis.hash, chain.height + 1, chain.context().time_ms)
        except BlockError:
            continue
        found.append(one)
    return found


def test_who_signs_for_a_set_nobody_elected_is_slashed() -> None:
    chain = make_chain()
    evidence = make_lunacy(chain)
    assert len(evidence) == 4 + 2
    convicting = list_convicting(chain, evidence)
    assert {get_accused(one) for one in convicting} == {one.consensus_key.public_key for one in LIARS}
    assert all(get_offence_height(one) == HEIGHT for one in convicting)
    assert [decode_as(Evidence, encode(one, Evidence)) for one in convicting] == convicting
    events = chain.block(evidence=convicting).events.initialize
    slashed = [one for one in events if isinstance(one, ValidatorSlashed)]
    assert {one.operator for one in slashed} == {one.account for one in LIARS}
    assert all(one.amount for one in slashed)
    assert list_convicting(chain, evidence) == [], "a key is convicted once"


@pytest.mark.parametrize(
    "fields",
    [
        {"parent_hash": bytes(32)},
        {"height": HEIGHT + 1},
        {"time_ms": 1},
        {"validators_hash": bytes(32)},
    ],
)
def test_whatever_contradicts_the_parent_convicts(fields: dict[str, object]) -> None:
    chain = make_chain()
    false = make_header(chain, **fields)
    evidence = FalseVote(sign(chain, false, LIARS[0], 2), false)
    chain.block(evidence=[evidence])
    assert staking.is_tombstoned(chain.state, LIARS[0].consensus_key.public_key)


@pytest.mark.parametrize(
    "fields",
    [{}, {"state_root": bytes(32)}, {"body_root": b"\x01" * 32}, {"proposer": bytes(32)}, {"time_ms": 1 << 60}],
)
def test_a_header_that_only_differs_convicts_nobody(fields: dict[str, object]) -> None:
    """Another block of the height may have been valid, and its precommits released by a later polka."""
    chain = make_chain()
    other = make_header(chain, **fields)
    with pytest.raises(BlockError, match="contradicts nothing"):
        chain.block(evidence=[FalseVote(sign(chain, other, LIARS[0], 1), other)])


def test_a_vote_must_be_a_signed_precommit_for_that_header() -> None:
    chain = make_chain()
    false, other = make_header(chain, time_ms=1), make_header(chain, time_ms=2)
    vote = sign(chain, false, LIARS[0], 0)
    for evidence, text in (
        (FalseVote(sign(chain, false, LIARS[0], 0, VoteKind.PREVOTE), false), "only a precommit"),
        (FalseVote(vote, other), "another header"),
        (FalseVote(replace(vote, signature=bytes(64)), false), "bad signature"),
        (FalseVote(replace(vote, round=1), false), "bad signature"),
        (FalseVote(replace(vote, block_hash=None), false), "another header"),
        (FalseVote(sign(chain, false, get_dev_identity("eve"), 0), false), "no validator"),
    ):
        with pytest.raises(BlockError, match=text):
            chain.block(evidence=[evidence])


def test_what_the_chain_has_forgotten_convicts_nobody() -> None:
    """Hashes, times and sets are remembered for as long as evidence is new; after that nothing can be compared."""
    chain = make_chain()
    false = make_header(chain, validators_hash=bytes(32))
    evidence = FalseVote(sign(chain, false, LIARS[0], 0), false)
    chain.state.apply(((staking.makers.key(HEIGHT), None),))
    with pytest.raises(BlockError, match="contradicts nothing"):
        chain.block(evidence=[evidence])
    assert turns.MAKERS_KEPT == 4_096
