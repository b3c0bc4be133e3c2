"""The author of a path routes its stages through those who would judge it, until a friend is left."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.runtime.inference import benches, errors, queries
from consensus.runtime.inference.events import ChallengeDrawn, ChallengeResolved, StagePaid, WorkerSlashed
from genesis.dev import DevIdentity, get_dev_identity
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.request import PathStage
from tests.unit.consensus.runtime.inference.inference_world import PRICE, World, pick

HONEST = ("eve", "ferdie", "george", "heidi")
FRIEND = "judy"
VALIDATORS = (*HONEST, FRIEND)
CHEAT = "bob"


def make_world(validators: tuple[str, ...] = VALIDATORS, **params: int) -> World:
    """Every honest validator but the friend holds a layer with a worker of its own."""
    world = World(validators, **{"committee_size": 3, "fails_min": 2, "contest_committee_size": 0, **params})
    for layer, name in enumerate(HONEST[: len(validators) - 1], 2):
        who = get_dev_identity(name)
        world.chain.expect_ok(who, world.register_worker(who, layer, layer + 1))
    return world


def make_path(world: World, names: tuple[str, ...], ranges: tuple[tuple[int, int], ...]) -> dict[str, Any]:
    """The order's path over these accounts' workers, which sign its roots."""
    world.workers = [get_dev_identity(name) for name in names]
    stages = zip(world.workers, ranges, strict=True)
    path = (PathStage(who.worker_key.public_key, start, end, PRICE // 2, PRICE) for who, (start, end) in stages)
    return {"path": tuple(path)}


def settle_around(world: World) -> calls.Settle:
    """The cheat holds the first stage; the honest validators' workers, unasked, the others."""
    return world.settle(**make_path(world, (CHEAT, *HONEST), ((0, 2), (2, 3), (3, 4), (4, 5), (5, 6))))


def judge(world: World, drawn: ChallengeDrawn) -> list[Any]:
    """Honest members find the cheat's work wrong, the friend finds it right: the events of the last reveal."""
    who = {one.account: one for one in world.verifiers}
    votes = []
    for account in drawn.committee:
        outcome = Outcome.PASS if account == get_dev_identity(FRIEND).account else Outcome.FAIL
        votes.append((who[account], *world.verdict(drawn.challenge, who[account], outcome)))
    for verifier, commit, _ in votes:
        world.chain.expect_ok(verifier, commit)
    events: list[Any] = []
    for verifier, _, reveal in votes:
        events = list(world.chain.expect_ok(verifier, reveal).events)
    return events


def test_it_left_one_friend_when_a_whole_path_was_excluded(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it was: whoever operates any stage judges none, and one judge is a committee."""
    monkeypatch.setattr(benches, "list_parties", lambda client, operators, _: {client, *operators})
    world = make_world(fails_min=1, committee_members_min=1, committee_stake_permille=0)
    drawn = world.settle_and_draw(settle_around(world))[0]
    assert drawn.committee == (get_dev_identity(FRIEND).account,)
    events = judge(world, drawn)
    assert pick(events, StagePaid)[0].operator == get_dev_identity(CHEAT).account
    worker = queries.read_worker(world.chain.state, drawn.worker)
    assert worker is not None
    assert worker.proven > 0, "and probation ends by such passes"


def test_only_client_operator_and_neighbours_are_excluded() -> None:
    world = make_world(committee_stake_permille=400)
    drawn = world.settle_and_draw(settle_around(world))[0]
    assert len(drawn.committee) == 3
    assert get_dev_identity("eve").account not in drawn.committee, "the next stage's"
    events = judge(world, drawn)
    assert pick(events, ChallengeResolved)[0].outcome == Outcome.FAIL
    assert pick(events, WorkerSlashed)[0].operator == get_dev_identity(CHEAT).account


def test_where_half_of_the_stake_has_to_be_left_such_a_path_does_not_settle() -> None:
    """Three of five validators beside each other on the path: two are left for the one in the middle."""
    world = make_world()
    call = settle_around(world)
    world.chain.expect_error(world.workers[0], call, errors.CommitteeTooSmall)


@pytest.mark.parametrize(
    ("names", "params", "is_refused"),
    [
        (("bob", "eve", "dave"), {"committee_stake_permille": 666}, True),
        (("bob", "eve", "dave"), {"committee_stake_permille": 500}, False),
        (("bob", "eve", "dave"), {"committee_stake_permille": 0, "committee_members_min": 2}, True),
    ],
)
def test_a_path_that_leaves_too_few_is_refused(
    names: tuple[str, ...], params: dict[str, int], is_refused: bool
) -> None:
    """Two verifiers; the neighbour is one of them."""
    world = World(("eve", FRIEND), **{"committee_size": 2, "fails_min": 1, **params})
    eve = get_dev_identity("eve")
    world.chain.expect_ok(eve, world.register_worker(eve, 2, 4))
    call = world.settle(**make_path(world, names, ((0, 2), (2, 4), (4, 6))))
    if is_refused:
        world.chain.expect_error(get_dev_identity("bob"), call, errors.CommitteeTooSmall)
    else:
        world.chain.expect_ok(get_dev_identity("bob"), call)


def test_a_client_that_validates_counts_too() -> None:
    """Its own two thirds of the stake cannot judge what it ordered, and the last third alone is no committee."""
    world = World(("client", FRIEND, "eve"), committee_stake_permille=666)
    client: DevIdentity = world.client
    assert client.account in {one.account for one in world.verifiers}
    world.chain.expect_ok(client, calls.Bond(200_000 * 10**9))
    world.chain.skip(12)
    world.chain.expect_error(world.workers[0], world.settle(), errors.CommitteeTooSmall)
