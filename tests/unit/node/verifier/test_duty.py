"""The duty of a verifier: judges once, never says two things, accuses nobody before the last moment, is never late."""

from __future__ import annotations

from pathlib import Path as FilePath

import pytest
import trio

from inference.errors import StoreError
from inference.serving.record import make_opening
from node.client.chain_view import ChainUnreachable
from node.client.tips import compute_tip
from node.p2p.errors import PeerUnreachable, RequestRefused
from node.verifier import duty as module
from node.verifier.duty import VerificationDuty
from node.verifier.submissions import SubmissionRefused
from node.verifier.verdicts import VerdictStore
from proto_specs.codec import encode
from proto_specs.types.audit import sign_audit
from proto_specs.types.calls import BatchEach, CommitVerdict, Outcome, RevealVerdict
from proto_specs.types.verdict import VerdictPreimage, compute_commitment
from tests.property.inference.serving.harness import WORKER_KEYS, make_manifest
from tests.unit.node.verifier.world import ACCOUNT, DEADLINE, World, run_inline


@pytest.fixture
def world(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def get_outcome(world: World, challenge: bytes) -> Outcome | None:
    found = world.store.load(challenge)
    return None if found is None else Outcome(found.outcome)


async def test_a_challenge_is_judged_once_committed_and_revealed(world: World, autojump_clock) -> None:
    challenge = world.draw()
    for world.chain.height in (5, 6, 7):
        await world.duty.run_once()
    assert world.judge.judged == 1
    assert len(world.chain.commitments) == 1
    world.chain.change(challenge, is_committed=True)
    await world.duty.run_once()
    assert len(world.chain.submitted) == 1, "nothing is revealed while others may commit"
    world.chain.change(challenge, may_reveal=True)
    await world.duty.run_once()
    reveal = world.chain.submitted[-1]
    assert isinstance(reveal, RevealVerdict)
    preimage = VerdictPreimage(
        challenge,
        ACCOUNT,
        reveal.outcome,
        reveal.distance_ppb,
        reveal.token_mismatches,
        reveal.fingerprint,
        reveal.salt,
    )
    assert compute_commitment(preimage) == world.chain.commitments[0]
    world.chain.change(challenge, is_revealed=True)
    world.chain.height += 10
    await world.duty.run_once()
    assert len(world.chain.submitted) == 2
    assert world.judge.judged == 1


async def test_a_verifier_killed_after_writing_commits_the_same(world: World, autojump_clock) -> None:
    world.draw()
    world.chain.refusal = SubmissionRefused("killed before it arrived")
    await world.duty.run_once()
    assert world.chain.commitments == []
    world.chain.refusal = None
    world.restart()
    await world.duty.run_once()
    world.restart()
    await world.duty.run_once()
    assert world.judge.judged == 1
    assert len(set(world.chain.commitments)) == 1
    assert len(world.chain.commitments) == 2


async def test_no_second_commitment_when_the_disk_was_lost(world: World, autojump_clock) -> None:
    challenge = world.draw()
    await world.duty.run_once()
    world.chain.change(challenge, is_committed=True, may_reveal=True)
    world.directory = world.directory / "another"
    world.restart()
    await world.duty.run_once()
    assert len(world.chain.submitted) == 1
    assert world.judge.judged == 1


async def test_a_commitment_that_does_not_land_is_sent_again(world: World, autojump_clock) -> None:
    world.draw()
    for world.chain.height in range(5, 12):
        await world.duty.run_once()
    assert len(world.chain.commitments) == 3
    assert len(set(world.chain.commitments)) == 1


async def test_a_node_that_is_away_when_we_commit_is_asked_again_at_once(world: World, autojump_clock) -> None:
    world.draw()
    world.chain.refusal = ChainUnreachable("away")
    await world.duty.run_once()
    world.chain.refusal = None
    await world.duty.run_once()
    assert len(world.chain.commitments) == 1


@pytest.mark.parametrize("failure", [PeerUnreachable("no"), RequestRefused("OpeningUnavailable: not kept")])
async def test_an_unavailable_worker_is_accused_at_the_last_moment_only(
    world: World, autojump_clock, failure: Exception
) -> None:
    challenge = world.draw()
    world.network.failing[world.address(1)] = failure
    for world.chain.height in range(5, DEADLINE - module.MARGIN_BLOCKS):
        await world.duty.run_once()
        assert get_outcome(world, challenge) is None
    world.chain.height = DEADLINE - module.MARGIN_BLOCKS
    await world.duty.run_once()
    assert get_outcome(world, challenge) is Outcome.UNAVAILABLE
    assert len(world.chain.commitments) == 1


async def test_a_worker_that_comes_back_in_time_is_judged(world: World, autojump_clock) -> None:
    challenge = world.draw()
    world.network.failing[world.address(1)] = PeerUnreachable("no")
    await world.duty.run_once()
    world.network.failing.clear()
    world.chain.height += 1
    await world.duty.run_once()
    assert get_outcome(world, challenge) is Outcome.PASS


async def test_an_opening_that_does_not_authenticate_is_no_opening(world: World, autojump_clock) -> None:
    challenge = world.draw(stage=1)
    other = encode(make_opening(world.network.records[2], 1))
    for answer in (other, b"", b"\xc1", other[:-1]):
        world.network.answers[world.address(1)] = answer
        world.chain.height += 1
        await world.duty.run_once()
    assert get_outcome(world, challenge) is None
    world.chain.height = DEADLINE - 1
    await world.duty.run_once()
    assert get_outcome(world, challenge) is Outcome.UNAVAILABLE
    assert world.judge.judged == 0


async def test_every_address_is_tried(world: World, autojump_clock) -> None:
    challenge = world.draw()
    world.chain.addresses[WORKER_KEYS[1].public_key] = ("bad", "worse", "good")
    world.network.failing["bad"] = PeerUnreachable("no")
    world.network.answers["worse"] = encode(make_opening(world.network.records[0], 0))
    await world.duty.run_once()
    assert get_outcome(world, challenge) is Outcome.PASS


async def test_who_was_asked_a_moment_ago_is_not_accused(world: World, autojump_clock, monkeypatch) -> None:
    """The verifier was away until the last block at which it waits for anybody."""
    challenge = world.draw()
    world.network.silent = {world.address(1)}
    world.chain.height = DEADLINE - module.MARGIN_BLOCKS
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.duty.run)
        await trio.sleep(1)
        world.chain.height += 1
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert get_outcome(world, challenge) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("height", [DEADLINE, DEADLINE + 5])
async def test_too_late_is_nothing_at_all(world: World, autojump_clock, height: int) -> None:
    challenge = world.draw()
    world.chain.height = height
    await world.duty.run_once()
    assert world.network.asked == []
    assert world.chain.submitted == []
    assert get_outcome(world, challenge) is None


async def test_a_silent_worker_keeps_no_other_challenge_waiting(
    world: World, autojump_clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trio.to_thread, "run_sync", run_inline)
    silent, quick = world.draw(stage=0, deadline=DEADLINE), world.draw(stage=1, deadline=DEADLINE + 1)
    world.chain.addresses[WORKER_KEYS[0].public_key] = tuple(f"silent{at}" for at in range(8))
    world.network.silent = {f"silent{at}" for at in range(8)}

    async def make_blocks() -> None:
        while True:
            await trio.sleep(1)
            world.chain.height += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.duty.run)
        nursery.start_soon(make_blocks)
        await trio.sleep(0.3)
        assert get_outcome(world, quick) is Outcome.PASS
        late = world.draw(stage=2)
        await trio.sleep(0.6)
        assert get_outcome(world, late) is Outcome.PASS
        while get_outcome(world, silent) is None:
            await trio.sleep(0.1)
        assert world.chain.height in (DEADLINE - module.MARGIN_BLOCKS, DEADLINE - module.MARGIN_BLOCKS + 1)
        assert get_outcome(world, silent) is Outcome.UNAVAILABLE
        await trio.sleep(2 * module.POLL_S)
        nursery.cancel_scope.cancel()
    assert len(set(world.chain.commitments)) == 3


@pytest.mark.parametrize(
    "failure", [StoreError("not here"), OSError(5, "Input/output error"), MemoryError(), KeyError("a bug")]
)
async def test_a_shard_we_cannot_compute_accuses_nobody_and_is_said(
    world: World, autojump_clock, failure: Exception
) -> None:
    challenge = world.draw()
    world.judge.failure = failure
    for world.chain.height in range(5, DEADLINE + 2):
        await world.duty.run_once()
        assert (get_outcome(world, challenge) is not None) == (world.chain.height >= DEADLINE - module.SAFE_BLOCKS)
    assert get_outcome(world, challenge) is Outcome.INCONCLUSIVE
    assert len(world.chain.commitments) == 1
    assert 2 <= len(world.network.asked) <= 6, "a worker is not asked four times a second for nothing"


async def test_a_chain_that_lacks_a_record_is_no_reason_for_silence(world: World, autojump_clock) -> None:
    challenge, other = world.draw(stage=0), world.draw(stage=1)
    world.chain.lost = {WORKER_KEYS[0].public_key}
    for world.chain.height in range(5, DEADLINE - 1):
        await world.duty.run_once()
    assert get_outcome(world, challenge) is Outcome.INCONCLUSIVE
    assert get_outcome(world, other) is Outcome.PASS


async def test_a_disk_that_fails_silences_nobody(world: World, autojump_clock, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    challenge = world.draw()
    monkeypatch.setattr(world.store, "save", fail)
    await world.duty.run_once()
    world.chain.change(challenge, is_committed=True, may_reveal=True)
    await world.duty.run_once()
    assert [type(one) for one in world.chain.submitted] == [CommitVerdict, RevealVerdict]
    assert world.judge.judged == 1


async def test_a_torn_verdict_is_judged_anew(world: World, autojump_clock) -> None:
    challenge = world.draw()
    (world.directory / f"{challenge.hex()}.verdict").write_bytes(b"\xc1")
    await world.duty.run_once()
    assert get_outcome(world, challenge) is Outcome.PASS


async def test_verdicts_of_one_block_travel_together(world: World, autojump_clock) -> None:
    drawn = [world.draw(stage=one) for one in range(3)]
    await world.duty.run_once()
    for one in drawn:
        world.chain.change(one, is_committed=True, may_reveal=True)
    await world.duty.run_once()
    commits, reveals = world.chain.submitted
    assert isinstance(commits, BatchEach)
    assert isinstance(reveals, BatchEach)
    assert {one.challenge for one in commits.calls} == {one.challenge for one in reveals.calls} == set(drawn)


async def test_what_does_not_land_is_sent_for_more_in_place_of_what_waits(world: World, autojump_clock) -> None:
    world.draw()
    for world.chain.height in range(5, 15):
        await world.duty.run_once()
    sent = [None, *((number + 1).to_bytes(32, "big") for number in range(3))]
    assert world.chain.tips == [(compute_tip(tries), sent[tries]) for tries in range(4)]
    assert world.chain.tips[0][0] == 0 < world.chain.tips[1][0] < world.chain.tips[2][0]


async def test_an_unreachable_node_accuses_nobody_and_ends_nothing(world: World, autojump_clock) -> None:
    challenge = world.draw()
    world.chain.height = DEADLINE - 2
    world.chain.is_reachable = False
    with pytest.raises(ChainUnreachable):
        await world.duty.run_once()
    with trio.move_on_after(3):
        await world.duty.run()
    assert get_outcome(world, challenge) is None
    world.chain.is_reachable = True
    await world.duty.run_once()
    assert get_outcome(world, challenge) is Outcome.PASS


async def test_two_verifiers_of_the_same_work_commit_to_different_bytes(
    world: World, autojump_clock, tmp_path: FilePath
) -> None:
    challenge = world.draw()
    await world.duty.run_once()
    other = VerificationDuty(b"w" * 32, None, world.chain, world.judge, VerdictStore(tmp_path / "w"))  # type: ignore[arg-type]
    await other.run_once()
    assert len(set(world.chain.commitments)) == 2
    assert challenge in world.chain.challenges


def answer_audit(world: World, layers: tuple[int, int] = (0, 2), stage: int = 1, subject: bytes = b"") -> bytes:
    payload = b"\x01" * 128
    return encode(sign_audit(subject or world.request, make_manifest(), layers, payload, WORKER_KEYS[stage]))


async def test_an_audit_is_judged_like_a_challenge(world: World, autojump_clock, monkeypatch) -> None:
    """Its worker's output is on chain nowhere: what counts is what the worker signs for this audit, and no other."""
    monkeypatch.setattr("node.verifier.audits.ask_peer", world.network.request)
    challenge = world.draw(window=0)
    world.chain.change(challenge, is_audit=True)
    worker = WORKER_KEYS[1].public_key
    spoilt = (
        b"\xc1",
        answer_audit(world, layers=(0, 3)),
        answer_audit(world, stage=2),
        answer_audit(world, subject=bytes(32)),
    )
    for answer in spoilt:
        world.network.answers[world.address(1)] = answer
        world.chain.height += 1
        await world.duty.run_once()
        assert get_outcome(world, challenge) is None
    world.chain.addresses[worker] = ("dead", world.address(1))
    world.network.failing["dead"] = PeerUnreachable("no")
    world.network.answers[world.address(1)] = answer_audit(world)
    world.chain.height += 1
    await world.duty.run_once()
    assert get_outcome(world, challenge) is Outcome.PASS
    assert world.judge.judged == 1


async def test_an_audit_that_nobody_answers_is_unavailable(world: World, autojump_clock, monkeypatch) -> None:
    monkeypatch.setattr("node.verifier.audits.ask_peer", world.network.request)
    challenge = world.draw(window=0)
    world.chain.change(challenge, is_audit=True)
    world.network.failing[world.address(1)] = PeerUnreachable("no")
    for world.chain.height in range(5, DEADLINE):
        await world.duty.run_once()
    assert get_outcome(world, challenge) is Outcome.UNAVAILABLE
