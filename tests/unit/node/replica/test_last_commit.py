"""The commit of the head grows by the precommits that come after the decision, and by nothing else."""

from __future__ import annotations

import pytest

from node.replica.last_commit import LastCommit
from proto_specs.types.chain import Commit, CommitSignature, Vote, VoteKind
from tests.unit.consensus.bft.builders import make_key, make_validators

HEIGHT, ROUND, BLOCK = 7, 1, bytes([7]) * 32
FIRST = (1, 2, 4)


def sign(member: int) -> bytes:
    return bytes([member]) * 64


def make_commit(*members: int) -> Commit:
    return Commit(HEIGHT, ROUND, BLOCK, tuple(CommitSignature(make_key(one), sign(one)) for one in members))


def make_vote(
    member: int,
    kind: VoteKind = VoteKind.PRECOMMIT,
    height: int = HEIGHT,
    round_: int = ROUND,
    block_hash: bytes | None = BLOCK,
) -> Vote:
    return Vote(kind, height, round_, block_hash, make_key(member), sign(member))


@pytest.fixture
def last() -> LastCommit:
    made = LastCommit()
    made.begin(make_commit(*FIRST), make_validators(1, 1, 1, 1))
    return made


def test_a_late_precommit_is_in_its_place(last: LastCommit) -> None:
    last.add(make_vote(3))
    assert last.get() == make_commit(1, 2, 3, 4)


@pytest.mark.parametrize(
    "vote",
    [
        make_vote(3, kind=VoteKind.PREVOTE),
        make_vote(3, height=HEIGHT - 1),
        make_vote(3, round_=0),
        make_vote(3, block_hash=None),
        make_vote(3, block_hash=bytes(32)),
        make_vote(5),
        make_vote(2),
    ],
    ids=["prevote", "another height", "another round", "nil", "another block", "no member", "in it already"],
)
def test_nothing_else_is_taken(last: LastCommit, vote: Vote) -> None:
    assert not last.lacks(vote)
    last.add(vote)
    assert last.get() == make_commit(*FIRST)


def test_at_genesis_there_is_none() -> None:
    last = LastCommit()
    assert not last.lacks(make_vote(3))
    last.begin(None, make_validators(1))
    assert not last.lacks(make_vote(1))
    assert last.get() is None
