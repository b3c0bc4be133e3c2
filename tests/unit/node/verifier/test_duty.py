"""The duty of a verifier: judges once, never says two things, accuses nobody before the last moment, is never late."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path as FilePath

import pytest
import trio

from consensus.runtime.inference.state import Challenge, Request, RequestStage
from inference.errors import StoreError
from inference.serving.record import RequestRecord, make_opening
from node.client.chain_view import ChainUnreachable, SessionEntry, WorkerEntry
from node.p2p.errors import PeerUnreachable, RequestRefused
from node.verifier import duty as module
from node.verifier.duty import OpenChallenge, SubmissionRefused, VerificationDuty
from node.verifier.judge import Judgement
from node.verifier.verdicts import VerdictStore
from proto_specs.codec import decode, encode
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types.calls import Call, CommitVerdict, Outcome, RevealVerdict
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import OpeningRequest, compute_request_id
from proto_specs.types.verdict import VerdictPreimage, compute_challenge_id, compute_commitment
from tests.property.inference.serving.harness import SESSION_KEY, WORKER_KEYS, Path, make_manifest, make_order

ACCOUNT = b"v" * 32
PROMPT = tuple(range(100, 145))
DEADLINE = 20
PASS = Judgement(Outcome.PASS, 0, 0, b"\x01" * FINGERPRINT_BYTES)


@dataclass
class FakeNetwork:
    """Stands in for `request`: serves records, hangs, or fails, by address."""

    records: dict[int, RequestRecord]
    silent: set[str] = field(default_factory=set)
    failing: dict[str, Exception] = field(default_factory=dict)
    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def request(self, _host, address, _protocol, body, *, timeout_s, max_response_bytes) -> bytes:
        self.asked.append(address)
        await trio.lowlevel.checkpoint()
        if address in self.silent:
            await trio.sleep(timeout_s)
            raise PeerUnreachable("silent")
        if address in self.failing:
            raise self.failing[address]
        if address in self.answers:
            return self.answers[address]
        asked = decode(OpeningRequest, body)
        answer = encode(make_opening(self.records[asked.stage], asked.window))
        assert len(answer) <= max_response_bytes
        return answer


@dataclass
class FakeJudge:
    """Says what it is told to; counts."""

    verdict: Judgement = PASS
    failure: Exception | None = None
    judged: int = 0
    at_once: int = 0

    def judge(self, opening, model, manifest, layers, seed) -> Judgement:
        self.at_once += 1
        assert self.at_once == 1, "the model computes for one challenge at a time"
        self.judged += 1
        self.at_once -= 1
        if self.failure is not None:
            raise self.failure
        return self.verdict


@dataclass
class FakeChain:
    """A `DutyChain` whose height is set by the test."""

    request: Request
    genesis: bytes = bytes(32)
    height: int = 5
    challenges: dict[bytes, OpenChallenge] = field(default_factory=dict)
    addresses: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    submitted: list[Call] = field(default_factory=list)
    refusal: Exception | None = None
    is_reachable: bool = True

    def _check(self) -> None:
        if not self.is_reachable:
            raise ChainUnreachable("away")

    async def get_height(self) -> int:
        self._check()
        return self.height

    async def list_challenges(self) -> tuple[OpenChallenge, ...]:
        self._check()
        return tuple(self.challenges.values())

    async def get_request(self, request: bytes) -> Request | None:
        self._check()
        return self.request

    async def get_session(self, session: bytes) -> SessionEntry | None:
        self._check()
        return SessionEntry(session, b"a" * 32, SESSION_KEY.public_key, bytes(32), 5, 1, 1, False, True, 1, 3_601, 1)

    async def is_sequence_used(self, session: bytes, sequence: int) -> bool:
        raise NotImplementedError

    async def get_worker(self, worker: bytes) -> WorkerEntry | None:
        self._check()
        addresses = self.addresses.get(worker, (worker.hex()[:4],))
        return WorkerEntry(worker, bytes(32), bytes(32), 0, 2, 1, 1, "peer", addresses, 1, 2, True, False)

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        raise NotImplementedError

    async def get_manifest(self, model: bytes) -> Manifest | None:
        self._check()
        return make_manifest()

    async def submit(self, call: Call) -> bytes:
        self._check()
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append(call)
        return b"x" * 32

    def change(self, challenge: bytes, **fields: bool) -> None:
        self.challenges[challenge] = dataclasses.replace(self.challenges[challenge], **fields)

    @property
    def commitments(self) -> list[bytes]:
        return [one.commitment for one in self.submitted if isinstance(one, CommitVerdict)]


class World:
    """One settled request of three stages, each of them drawn, and a verifier."""

    def __init__(self, directory: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
        outcome = Path(make_order(PROMPT, 40, 3), PROMPT, None, seed=9).run()
        assert outcome.settlement is not None
        order = outcome.settlement.order.order
        self.request = compute_request_id(order)
        roots = [one.roots for one in outcome.settlement.stage_roots]
        stages = tuple(
            RequestStage(one.worker, bytes(32), one.start, one.end, 1, 1, 1, root.input_root, root.output_root)
            for one, root in zip(order.path, roots, strict=True)
        )
        positions, windows = roots[0].positions, roots[0].windows
        request = Request(
            bytes(32),
            0,
            bytes(32),
            bytes(32),
            1,
            45,
            40,
            bytes(32),
            True,
            positions,
            windows,
            3,
            3,
            0,
            bytes(32),
            3,
            stages,
        )
        self.chain = FakeChain(request)
        self.network = FakeNetwork(outcome.records)
        self.judge = FakeJudge()
        self.directory = directory
        monkeypatch.setattr(module, "ask_peer", self.network.request)
        self.restart()

    def restart(self) -> None:
        self.store = VerdictStore(self.directory)
        self.duty = VerificationDuty(ACCOUNT, None, self.chain, self.judge, self.store)  # type: ignore[arg-type]

    def draw(self, stage: int = 1, window: int = 1, deadline: int = DEADLINE) -> bytes:
        challenge_id = compute_challenge_id(self.request, stage)
        challenge = Challenge(
            self.request,
            stage,
            window,
            WORKER_KEYS[stage].public_key,
            bytes(32),
            b"b" * 32,
            1,
            deadline,
            deadline + 20,
            30_000,
            (),
            0,
            0,
            None,
            0,
            0,
        )
        self.chain.challenges[challenge_id] = OpenChallenge(challenge_id, challenge, False, False, False)
        return challenge_id

    def address(self, stage: int) -> str:
        return WORKER_KEYS[stage].public_key.hex()[:4]


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


@pytest.mark.parametrize("height", [DEADLINE, DEADLINE + 5])
async def test_too_late_is_nothing_at_all(world: World, autojump_clock, height: int) -> None:
    challenge = world.draw()
    world.chain.height = height
    await world.duty.run_once()
    assert world.network.asked == []
    assert world.chain.submitted == []
    assert get_outcome(world, challenge) is None


async def test_a_silent_worker_keeps_no_other_challenge_waiting(world: World, mock_clock) -> None:
    mock_clock.autojump_threshold = 0.02  # the disk is written by real threads: time stands still for them
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
        nursery.cancel_scope.cancel()
    assert len(set(world.chain.commitments)) == 3


async def test_a_shard_we_do_not_hold_accuses_nobody(world: World, autojump_clock) -> None:
    challenge = world.draw()
    world.judge.failure = StoreError("not here")
    for world.chain.height in range(5, DEADLINE + 2):
        await world.duty.run_once()
    assert get_outcome(world, challenge) is None
    assert world.chain.submitted == []
    assert 2 <= len(world.network.asked) <= 6, "a worker is not asked four times a second for nothing"


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
