"""What the core refuses to hold or to believe: foreign heights, strangers, distant rounds, misshapen proposals."""

from __future__ import annotations

import dataclasses

import pytest

from consensus.bft.core import BftCore
from consensus.bft.inputs import ProposalReceived, StartHeight, VoteReceived
from consensus.bft.proposer import ProposerRotation
from consensus.bft.timeouts import Step
from proto_specs import limits
from proto_specs.types.chain import DuplicateVote, Proposal, VoteKind
from tests.unit.consensus.bft.builders import make_block, make_key, make_proposal, make_validators, make_vote
from tests.unit.consensus.bft.driver import HEIGHT, TIMEOUTS, Driver

EDGE = limits.ROUNDS_AHEAD_MAX
STRANGER = make_key(99)


@pytest.fixture
def driver() -> Driver:
    started = Driver()
    started.start()
    return started


def test_nothing_is_heard_before_the_first_height() -> None:
    core = BftCore(TIMEOUTS)
    assert core.handle(VoteReceived(make_vote(VoteKind.PREVOTE, 0, 0, None, make_key(1)))) == []
    assert (core.height, core.round, core.step, core.is_decided) == (0, 0, Step.PROPOSE, False)
    assert (core.get_gossip_rounds(), core.get_votes(0), core.get_proposal(0)) == ((), (), None)


def test_heights_only_rise(driver: Driver) -> None:
    again = StartHeight(HEIGHT, driver.validators, ProposerRotation.start(driver.validators), None)
    with pytest.raises(AssertionError, match="height 5 does not follow 5"):
        driver.core.handle(again)


def test_a_rotation_of_another_set_is_our_bug(driver: Driver) -> None:
    other = ProposerRotation.start(make_validators(1, 2))
    with pytest.raises(AssertionError, match="rotation"):
        driver.core.handle(StartHeight(HEIGHT + 1, driver.validators, other, None))


@pytest.mark.parametrize(
    ("kind", "height", "sender"),
    [
        pytest.param(VoteKind.PREVOTE, HEIGHT + 1, make_key(1), id="next height"),
        pytest.param(VoteKind.PREVOTE, HEIGHT - 1, make_key(1), id="last height"),
        pytest.param(VoteKind.PREVOTE, HEIGHT, STRANGER, id="no member"),
        pytest.param(0, HEIGHT, make_key(1), id="kind 0"),
        pytest.param(3, HEIGHT, make_key(1), id="kind 3"),
    ],
)
def test_vote_is_not_counted(driver: Driver, kind: VoteKind, height: int, sender: bytes) -> None:
    driver.prevote(1, None, 1)
    driver.give(make_vote(kind, height, 1, None, sender))
    assert driver.core.round == 0
    assert len(driver.core.get_votes(1)) == 1


def test_round_of_a_vote_is_bounded(driver: Driver) -> None:
    for sender in (0, 1):
        driver.prevote(limits.ROUND_MAX + 1, None, sender)
    assert driver.core.round == 0


def test_votes_are_tallied_up_to_the_edge_of_the_window(driver: Driver) -> None:
    driver.prevote(EDGE, None, 0)
    driver.prevote(EDGE + 1, None, 1)
    assert len(driver.core.get_votes(EDGE)) == 1
    assert len(driver.core.get_votes(EDGE + 1)) == 0


def test_distant_votes_are_tallied_once_the_window_reaches_them(driver: Driver) -> None:
    driver.precommit(EDGE + 2, None, 0)
    driver.prevote(2, None, 1, 2)
    assert driver.core.round == 2
    assert [vote.validator for vote in driver.core.get_votes(EDGE + 2)] == [make_key(1)]


def test_only_the_newest_distant_vote_of_a_validator_is_held(driver: Driver) -> None:
    for round_ in (EDGE + 1, EDGE + 9, EDGE + 3):
        driver.prevote(round_, None, 0)
    driver.prevote(EDGE, None, 1, 2)
    assert [len(driver.core.get_votes(round_)) for round_ in (EDGE + 1, EDGE + 3, EDGE + 9)] == [0, 0, 1]


def test_proposals_are_held_up_to_the_edge_of_the_window(driver: Driver) -> None:
    driver.propose(EDGE, f"a{EDGE}")
    driver.propose(EDGE + 1, f"a{EDGE + 1}")
    assert driver.core.get_proposal(EDGE) is not None
    assert driver.core.get_proposal(EDGE + 1) is None


def misshapen() -> list[object]:
    good = make_proposal(HEIGHT, 0, None, make_block(HEIGHT, make_key(1)), make_key(1))
    header = good.block.header
    changes = {
        "not its proposer": {"proposer": make_key(2)},
        "a stranger": {"proposer": STRANGER},
        "proposal of another height": {"height": HEIGHT + 1},
        "block of another height": {"block": make_block(HEIGHT + 1, make_key(1))},
        "new block of another proposer": {"block": make_block(HEIGHT, make_key(2))},
        "valid round not below round": {"valid_round": 0},
        "body swapped": {
            "block": dataclasses.replace(good.block, header=dataclasses.replace(header, body_root=b"\x01" * 32))
        },
        "commit swapped": {
            "block": dataclasses.replace(good.block, header=dataclasses.replace(header, last_commit_hash=b"\x01" * 32))
        },
    }
    made: list[object] = [pytest.param(good, True, id="as it should be")]
    return made + [pytest.param(dataclasses.replace(good, **one), False, id=name) for name, one in changes.items()]  # type: ignore[arg-type]


@pytest.mark.parametrize(("proposal", "is_held"), misshapen())
def test_proposal_is_held_only_if_well_formed(driver: Driver, proposal: Proposal, is_held: bool) -> None:
    effects = driver.core.handle(ProposalReceived(proposal))
    assert (driver.core.get_proposal(0) is not None) == is_held
    assert bool(effects) == is_held


def test_a_body_that_is_not_the_headers_does_not_spoil_the_block(driver: Driver) -> None:
    """A proposer that signs a header over two bodies: the true body still gets in, and both of them are evidence."""
    vote = make_vote(VoteKind.PREVOTE, 1, 0, None, make_key(1))
    swapped = dataclasses.replace(driver.block("a0"), evidence=(DuplicateVote(vote, vote),))
    assert driver.give(make_proposal(HEIGHT, 0, None, swapped, make_key(1))) == []
    assert driver.propose(0, "a0") == [("two proposals", 0, 0), ("validate", "a0")]


def test_foreign_block_built_is_our_bug() -> None:
    driver = Driver(own=0)
    driver.start()
    with pytest.raises(AssertionError, match="another proposer"):
        driver.built(0, "a1")


@pytest.mark.parametrize("own", [None, 8])
def test_observer_decides_without_a_word(own: int | None) -> None:
    driver = Driver(own=own)
    driver.start()
    driver.propose(0, "a0")
    driver.validate("a0")
    driver.prevote(0, "a0", 0, 1, 2)
    driver.precommit(0, "a0", 0, 1, 2)
    assert [effect[0] for effect in driver.seen] == ["schedule", "validate", "decide"]


def test_gossip_covers_the_valid_value_and_the_rounds_in_progress(driver: Driver) -> None:
    driver.propose(0, "a0")
    driver.validate("a0")
    driver.prevote(0, "a0", 0, 1, 2)
    driver.prevote(5, None, 0, 1)
    assert driver.core.get_gossip_rounds() == (0, 4, 5)
    assert driver.core.get_proposal(0) is not None
    assert len(driver.core.get_votes(0)) == 3
