"""An effect and its answer have one key, and no other pair has it: so a replayed log tells what was done."""

from __future__ import annotations

from typing import get_args

import pytest

from consensus.bft.effects import (
    BuildBlock,
    CastVote,
    Decide,
    Effect,
    Propose,
    ReportEvidence,
    ScheduleTimeout,
    ValidateBlock,
)
from consensus.bft.inputs import (
    BlockBuilt,
    BlockValidated,
    Input,
    ProposalReceived,
    TimeoutElapsed,
    VoteReceived,
)
from consensus.bft.timeouts import Step, Timeout
from node.replica.answers import get_answer_key, get_effect_key
from proto_specs.types.chain import Commit, DuplicateVote, Proposal, Vote, VoteKind, compute_block_hash
from tests.unit.consensus.bft.builders import make_block, make_key

KEY, SIGNATURE = make_key(1), bytes(64)
BLOCK = make_block(7, KEY)
HASH = compute_block_hash(BLOCK.header)
TIMEOUT = Timeout(Step.PROPOSE, 7, 2)
VOTE = Vote(VoteKind.PRECOMMIT, 7, 2, HASH, KEY, SIGNATURE)

PAIRS: list[tuple[Effect, Input]] = [
    (BuildBlock(7, 2), BlockBuilt(7, 2, BLOCK)),
    (Propose(7, 2, None, BLOCK), ProposalReceived(Proposal(7, 2, None, BLOCK, KEY, SIGNATURE))),
    (ValidateBlock(BLOCK), BlockValidated(HASH, True)),
    (CastVote(VoteKind.PRECOMMIT, 7, 2, HASH), VoteReceived(VOTE)),
    (ScheduleTimeout(TIMEOUT, 5), TimeoutElapsed(TIMEOUT)),
]
UNLOGGED: list[Effect] = [
    Decide(7, 2, BLOCK, Commit(7, 2, HASH, ())),
    ReportEvidence(DuplicateVote(VOTE, VOTE)),
]


@pytest.mark.parametrize(("effect", "answer"), PAIRS, ids=lambda one: type(one).__name__)
def test_the_answer_that_an_effect_names_has_its_key(effect: Effect, answer: Input) -> None:
    assert type(answer) is effect.answered_by
    assert get_effect_key(effect) == get_answer_key(answer)
    assert [one for _, one in PAIRS if get_answer_key(one) == get_effect_key(effect)] == [answer]


@pytest.mark.parametrize("effect", UNLOGGED, ids=lambda one: type(one).__name__)
def test_what_the_log_keeps_no_answer_of_has_no_key(effect: Effect) -> None:
    assert get_effect_key(effect) is None


def test_every_effect_is_here() -> None:
    assert {type(one) for one in (*(effect for effect, _ in PAIRS), *UNLOGGED)} == set(get_args(Effect))
