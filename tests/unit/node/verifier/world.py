"""A verifier's surroundings without a network: a chain, peers and a judge that do what the test says."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any

import pytest
import trio

from consensus.runtime.inference.state import Challenge, Request, RequestStage
from inference.serving.record import RequestRecord, make_opening
from node.client.chain_view import ChainUnreachable, SessionEntry, WorkerEntry
from node.p2p.errors import PeerUnreachable
from node.verifier import duty as module
from node.verifier.duty import OpenChallenge, VerificationDuty
from node.verifier.judge import Judgement
from node.verifier.verdicts import VerdictStore
from proto_specs.codec import decode, encode
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types.calls import BatchEach, Call, CommitVerdict, Outcome
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import OpeningRequest, compute_request_id
from proto_specs.types.verdict import compute_challenge_id
from tests.property.inference.serving.harness import SESSION_KEY, WORKER_KEYS, Path, make_manifest, make_order

ACCOUNT = b"v" * 32
PROMPT = tuple(range(100, 145))
START, DEADLINE = 5, 20
BEACON = b"b" * 32
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
    failures: dict[bytes, Exception] = field(default_factory=dict)
    """By the fingerprint's seed."""
    waits_for: threading.Event | None = None
    judged: int = 0
    at_once: int = 0

    def judge_audit(self, answer, model, manifest, seed) -> Judgement:
        return self.judge(answer, model, manifest, (answer.start, answer.end), seed)

    def judge(self, opening, model, manifest, layers, seed) -> Judgement:
        self.at_once += 1
        assert self.at_once == 1, "the model computes for one challenge at a time"
        self.judged += 1
        if self.waits_for is not None:
            self.waits_for.wait()
        self.at_once -= 1
        failure = self.failures.get(seed, self.failure)
        if failure is not None:
            raise failure
        return self.verdict


@dataclass
class FakeChain:
    """A `DutyChain` whose height is set by the test."""

    request: Request
    genesis: bytes = bytes(32)
    height: int = START
    challenges: dict[bytes, OpenChallenge] = field(default_factory=dict)
    addresses: dict[bytes, tuple[str, ...]] = field(default_factory=dict)
    submitted: list[Call] = field(default_factory=list)
    tips: list[tuple[int, bytes | None]] = field(default_factory=list)
    refusal: Exception | None = None
    is_reachable: bool = True
    lost: set[bytes] = field(default_factory=set)

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
        return SessionEntry(
            session, b"a" * 32, SESSION_KEY.public_key, bytes(32), 5, 1, 0, 1, 1, False, True, 1, 3_601, 1
        )

    async def is_sequence_used(self, session: bytes, sequence: int) -> bool:
        raise NotImplementedError

    async def get_settled_positions(self, request: bytes) -> int | None:
        raise NotImplementedError

    async def get_worker(self, worker: bytes, *, fresh: bool = False) -> WorkerEntry | None:
        self._check()
        if worker in self.lost:
            return None
        addresses = self.addresses.get(worker, (worker.hex()[:4],))
        return WorkerEntry(worker, bytes(32), bytes(32), 0, 2, 1, 1, "peer", addresses, 1, 2, True, False)

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        raise NotImplementedError

    async def get_manifest(self, model: bytes) -> Manifest | None:
        self._check()
        return make_manifest()

    async def submit(self, call: Call, tip: int = 0, replaces: bytes | None = None) -> bytes:
        self._check()
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append(call)
        self.tips.append((tip, replaces))
        return len(self.submitted).to_bytes(32, "big")

    def change(self, challenge: bytes, **fields: bool) -> None:
        self.challenges[challenge] = dataclasses.replace(self.challenges[challenge], **fields)

    @property
    def commitments(self) -> list[bytes]:
        return [one.commitment for one in self.calls if isinstance(one, CommitVerdict)]

    @property
    def calls(self) -> list[Call]:
        """What was sent, alone or together."""
        return [one for call in self.submitted for one in (call.calls if isinstance(call, BatchEach) else (call,))]


class World:
    """One settled request of three stages, each of them drawn, and a verifier."""

    def __init__(self, directory: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
        outcome = Path(make_order(PROMPT, 40, 3), PROMPT, None, seed=9).run()
        assert outcome.settlement is not None
        order = outcome.settlement.order.order
        self.request = compute_request_id(order)
        roots = [one.roots for one in outcome.settlement.stage_roots]
        stages = tuple(
            RequestStage(
                one.worker, bytes(32), one.start, one.end, 1, 1, 1, root.input_root, root.output_root, root.positions
            )
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
            0,
            None,
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
        self.landed: dict[bytes, int] = {}
        self._noted = 0
        self.directory = directory
        monkeypatch.setattr(module, "ask_peer", self.network.request)
        self.restart()

    def restart(self) -> None:
        self.store = VerdictStore(self.directory)
        self.duty = VerificationDuty(ACCOUNT, None, self.chain, self.judge, self.store)  # type: ignore[arg-type]

    def draw(
        self, stage: int = 1, window: int = 1, deadline: int = DEADLINE, name: bytes | None = None, worker: bytes = b""
    ) -> bytes:
        """A challenge, of that name; of the worker that computed it, or another whose records it has."""
        challenge_id = compute_challenge_id(self.request if name is None else name, stage)
        challenge = Challenge(
            self.request,
            stage,
            window,
            worker or WORKER_KEYS[stage].public_key,
            bytes(32),
            BEACON,
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

    def outcome(self, challenge: bytes) -> Outcome | None:
        """What the verifier is bound to, on disk or in memory."""
        found = self.duty._bound.get(challenge) or self.store.load(challenge)  # noqa: SLF001
        return None if found is None else Outcome(found.outcome)

    def note_landed(self) -> None:
        """Commitments sent since the last block land two blocks after the one they were sent at."""
        for one in self.chain.calls[self._noted :]:
            if isinstance(one, CommitVerdict) and one.challenge not in self.landed:
                self.landed[one.challenge] = self.chain.height + 1
                self.chain.change(one.challenge, is_committed=True)
        self._noted = len(self.chain.calls)

    def address(self, stage: int) -> str:
        return WORKER_KEYS[stage].public_key.hex()[:4]


async def run_inline(work: Callable[..., Any], *args: Any, **_: Any) -> Any:
    """Instead of a thread: virtual time does not pass meanwhile."""
    await trio.lowlevel.checkpoint()
    return work(*args)


async def run_blocks(world: World, until: int, gone: int = 0, back: int = 0) -> None:
    """The duty runs while a block comes every second; from block `gone` to `back` the node is away."""
    async with trio.open_nursery() as nursery:
        world.chain.is_reachable = not gone <= world.chain.height < back
        nursery.start_soon(world.duty.run)
        while world.chain.height < until:
            await trio.sleep(1)
            world.note_landed()
            world.chain.height += 1
            world.chain.is_reachable = not gone <= world.chain.height < back
        nursery.cancel_scope.cancel()
