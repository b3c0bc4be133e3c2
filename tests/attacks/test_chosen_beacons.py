"""Proposers choose among beacons: how much a draw loses by it, in numbers, and what is left of that by the rules.

The numbers are those of consensus.md, "Bias". Beacons are hashes here as they are on the chain; the coalition sees its
own before anybody else, and declines or settles as it likes.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from consensus.bft.proposer import ProposerRotation
from consensus.runtime.arithmetic import PPM
from consensus.runtime.executive import execute_block
from consensus.runtime.inference import bias, queries
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.draws import compute_draw
from consensus.runtime.inference.events import ChallengeDrawn, StagePaid
from consensus.runtime.inference.state import DueKind, InferenceParams, Worker
from consensus.runtime.staking import state as staking
from consensus.runtime.staking import turns
from consensus.state.overlay import Overlay
from genesis.dev import build_dev_params
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.types.chain import Validator, ValidatorSet
from tests.unit.consensus.runtime.inference.inference_world import World, pick

TRIES = 20_000
BASE_PPM = 100_000
"""10 %: high enough to count what is left of it."""
REQUEST = bytes(32)


def make_worker(unresolved: int, bond: int) -> Worker:
    """A worker of which only its exposure counts here."""
    return Worker(
        bytes(32), bytes(32), 0, 1, 0, bond, unresolved, 1, 0, "", (), 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    )  # fmt: skip


def make_params() -> InferenceParams:
    return replace(build_dev_params().inference, base_challenge_ppm=BASE_PPM)


def hit(number: int, turn: int, ppm: int) -> bool:
    """Whether a beacon of a try draws the stage."""
    beacon = hash_tagged(Tag.BEACON, number.to_bytes(8, "big") + bytes([turn]))
    return compute_draw(beacon, REQUEST, 0, ppm, range(1)) is not None


def measure(declines: int, worker: Worker, *, has_rule: bool) -> int:
    """ppm of tries in which a stage is caught though so many proposers in a row decline every draw that hits it."""
    params, caught = make_params(), 0
    for number in range(TRIES):
        for turn in range(declines + 1):
            ppm = bias.compute_drawn_ppm(params, worker, BASE_PPM, turn) if has_rule else BASE_PPM
            if not hit(number, turn, ppm):
                break
        else:
            caught += 1
    return caught * PPM // TRIES


@pytest.mark.parametrize("declines", [1, 2, 3])
def test_declining_leaves_what_the_exposure_asks_for(declines: int) -> None:
    """p, p^2, p^3 ... without the rule; with it 3 R / (S d) at least, however many decline: here 4 % of 10 %."""
    worker = make_worker(unresolved=12, bond=1_000)
    least = 3 * 12 * PPM * 1_000 // (1_000 * 900)
    assert least == 40_000
    without = measure(declines, worker, has_rule=False)
    assert abs(without - BASE_PPM * BASE_PPM**declines // PPM**declines) < 1_500
    with_rule = measure(declines, worker, has_rule=True)
    assert with_rule > least - 3_000
    assert without < least // 2 or declines == 0


def test_a_worker_with_little_at_stake_is_drawn_little_more() -> None:
    """The rule costs no more verification than the exposure is worth, and none where no turn was missed."""
    params = make_params()
    assert bias.compute_drawn_ppm(params, make_worker(12, 1_000), BASE_PPM, 0) == BASE_PPM
    assert bias.compute_drawn_ppm(params, make_worker(0, 1_000), BASE_PPM, 1) == BASE_PPM
    assert bias.compute_drawn_ppm(params, make_worker(12, 1_000), BASE_PPM, 1) == 400_000
    assert bias.compute_drawn_ppm(params, make_worker(600, 1_000), BASE_PPM, 1) == PPM
    assert bias.compute_drawn_ppm(params, make_worker(12, 1_000), BASE_PPM, 2) == PPM
    assert bias.compute_drawn_ppm(params, make_worker(12, 0), BASE_PPM, 1) == PPM, "nothing answers for it any more"
    assert bias.compute_drawn_ppm(params, make_worker(12, 1_000), 0, 2) == 0, "what is refunded is not drawn"


@pytest.mark.parametrize("has_rule", [True, False])
def test_a_skipped_turn_makes_the_draw_stricter_on_chain(has_rule: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker out of probation, drawn with 1 %, whose friends decline the two blocks before its draw."""
    world = World(("alice", "eve", "ferdie", "george"), base_challenge_ppm=10_000, probation_value=0, committee_size=1)
    if not has_rule:
        monkeypatch.setattr(bias, "compute_drawn_ppm", lambda params, worker, ppm, skips: ppm)
    world.chain.expect_ok(world.workers[0], world.settle())
    events = []
    for _ in range(2):
        chain = world.chain
        friend, other = turns.read_rotation(chain.state).list_proposers(2)
        assert friend != other
        executed = execute_block(chain.state, replace(chain.context(), proposer=other), (), ())
        chain.state.apply(executed.changes)
        chain.height += 1
        events += executed.events.initialize
    assert len(pick(events, ChallengeDrawn)) + len(pick(events, StagePaid)) >= 3 - 1
    assert bool(pick(events, ChallengeDrawn)) == has_rule, "two turns were declined: the draw is certain"


@pytest.mark.parametrize(("power_permille", "is_caught"), [(0, False), (334, True)])
def test_proposers_in_a_row_that_know_the_draw_before_they_settle(power_permille: int, is_caught: bool) -> None:
    """Three proposers in a row make the settlement's block and the two after it: they know the draw in advance, for
    nothing, and choose among requests. When a third of the power has to have made a block, the last one is unknown."""
    members = tuple(Validator(bytes([index]) * 32, bytes([index]) * 32, 100) for index in range(9))
    rotation = ProposerRotation.start(ValidatorSet(members))
    coalition = {bytes([index]) * 32 for index in range(3)}
    world = World(("alice",), draw_power_permille=power_permille)
    overlay = Overlay(world.chain.state)
    staking.validators.write(overlay, ValidatorSet(members))
    heights = range(10, 30)
    makers = {}
    for height in heights:
        makers[height] = rotation.get_proposer()
        staking.makers.write(overlay, height, staking.Maker(makers[height], bytes(32)))
        rotation = rotation.advance()
    settled = next(h for h in heights if {makers[h + at] for at in range(3)} == coalition)
    drawn = next(h for h in heights if h >= settled + 2 and not bias.find_wait(overlay, settled, h))
    unknown = {makers[h] for h in range(settled + 1, drawn + 1)} - coalition
    assert bool(unknown) == is_caught
    caught = 0
    for number in range(TRIES):
        known = bytes(32) if not unknown else number.to_bytes(32, "big")
        choices = [hash_tagged(Tag.LEAF, number.to_bytes(8, "big") + bytes([choice])) for choice in range(8)]
        foreseen = [one for one in choices if compute_draw(bytes(32), one, 0, BASE_PPM, range(1)) is None]
        request = (foreseen or choices)[0]
        caught += compute_draw(known, request, 0, BASE_PPM, range(1)) is not None
    share = caught * PPM // TRIES
    assert abs(share - BASE_PPM) < 10_000 if is_caught else share < 100


def test_a_draw_waits_no_longer_than_a_third_of_the_power_takes() -> None:
    """Of 100 equal validators 34 blocks; of 4 the two blocks that every draw waits; one alone is everybody."""
    for count, expected in ((1, 2), (4, 2), (9, 4), (100, 34)):
        members = tuple(Validator(bytes([index]) * 32, bytes([index]) * 32, 100) for index in range(count))
        world = World(("alice",), draw_power_permille=334)
        overlay = Overlay(world.chain.state)
        staking.validators.write(overlay, ValidatorSet(members))
        rotation, height, looks = ProposerRotation.start(ValidatorSet(members)), 10, 0
        for at in range(200):
            maker = staking.Maker(rotation.advance(at).get_proposer(), bytes(32))
            staking.makers.write(overlay, height + at, maker)
        now = height + 2
        while wait := bias.find_wait(overlay, height, now):
            now, looks = now + wait, looks + 1
        assert now - height == expected, count
        assert looks <= 2, "it looks again when it is time, not in every block"


def test_a_request_waits_for_its_draw_and_is_drawn_then() -> None:
    world = World(("alice", "eve", "ferdie", "george"), draw_power_permille=500)
    world.chain.expect_ok(world.workers[0], world.settle())
    events = world.chain.skip(2)
    assert not pick(events, ChallengeDrawn), "two of four are a half, not more"
    assert [key[1] for key in inference.due.iterate(world.chain.state, world.chain.height + 1)] == [DueKind.DRAW]
    assert len(pick(world.chain.skip(1), ChallengeDrawn)) == 3
    assert queries.read_params(world.chain.state).draw_power_permille == 500
