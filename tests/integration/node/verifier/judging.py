"""A verifier's duty over real libp2p on what the test network settled, with every stage and window drawn in turn."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from consensus.runtime.inference.state import Challenge, Request, RequestStage
from node.client.chain_view import SessionEntry, WorkerEntry
from node.verifier.duty import OpenChallenge, VerificationDuty
from node.verifier.judge import Judge
from node.verifier.verdicts import VerdictStore
from proto_specs.types.calls import Call, Settle
from proto_specs.types.manifest import Manifest
from proto_specs.types.request import compute_request_id
from proto_specs.types.verdict import VerdictPreimage, compute_challenge_id
from tests.integration.node.worker.network import Network

DEADLINE = 20


@dataclass
class DrawnChain:
    """A `DutyChain` on which one window of one stage is drawn."""

    network: Network
    settle: Settle
    genesis: bytes = bytes(32)
    height: int = 5
    drawn: list[OpenChallenge] = field(default_factory=list)
    submitted: list[Call] = field(default_factory=list)

    def draw(self, stage: int, window: int) -> bytes:
        order = self.settle.order.order
        request = compute_request_id(order)
        challenge_id = compute_challenge_id(request, stage)
        worker, model = order.path[stage].worker, self.network.model.model_id
        times = (1, DEADLINE, DEADLINE + 20, self.network.model.manifest.profile.threshold_ppb)
        challenge = Challenge(request, stage, window, worker, model, b"b" * 32, *times, (), 0, 0, None, 0, ())
        self.drawn = [OpenChallenge(challenge_id, challenge, False, False, False)]
        account = self.network.stages[stage].account
        account.challenge = SimpleNamespace(window=window, point=None, outcome=None)
        account.requests[request] = SimpleNamespace(stages=[one.roots for one in self.settle.stage_roots])
        return challenge_id

    async def get_height(self) -> int:
        return self.height

    async def list_challenges(self) -> tuple[OpenChallenge, ...]:
        return tuple(self.drawn)

    async def get_request(self, request: bytes) -> Request:
        order, zero = self.settle.order.order, bytes(32)
        roots = [one.roots for one in self.settle.stage_roots]
        stages = tuple(
            RequestStage(
                one.worker, zero, one.start, one.end, 1, 1, 1, root.input_root, root.output_root, root.positions
            )
            for one, root in zip(order.path, roots, strict=True)
        )
        counts = (order.prompt_tokens, self.settle.voucher.voucher.tokens)
        size = (roots[0].positions, roots[0].windows, 0, None)
        return Request(order.session, 0, zero, order.model, 1, *counts, zero, True, *size, 3, 3, 0, zero, 3, stages)

    async def get_session(self, session: bytes) -> SessionEntry | None:
        return await self.network.chain.get_session(session)

    async def is_sequence_used(self, session: bytes, sequence: int) -> bool:
        raise NotImplementedError

    async def get_settled_positions(self, request: bytes) -> int | None:
        raise NotImplementedError

    async def get_worker(self, worker: bytes, *, fresh: bool = False) -> WorkerEntry | None:
        return await self.network.chain.get_worker(worker)

    async def list_workers(self, model: bytes) -> tuple[WorkerEntry, ...]:
        raise NotImplementedError

    async def get_manifest(self, model: bytes) -> Manifest | None:
        return await self.network.chain.get_manifest(model)

    async def submit(self, call: Call, tip: int = 0, replaces: bytes | None = None) -> bytes:
        self.submitted.append(call)
        return bytes(32)


class Verifier:
    """One verifier with its own copy of the honest shards."""

    def __init__(self, network: Network, judge: Judge, directory: Path) -> None:
        self._network = network
        self._judge = judge
        self._directory = directory
        self._runs = 0

    async def judge(self, settle: Settle, stage: int, window: int) -> VerdictPreimage | None:
        """What it would commit to when this window is drawn; None when it has no verdict yet."""
        self._runs += 1
        chain: Any = DrawnChain(self._network, settle)
        challenge = chain.draw(stage, window)
        verdicts = VerdictStore(self._directory / str(self._runs))
        duty = VerificationDuty(b"v" * 32, self._network.client, chain, self._judge, verdicts)
        await duty.run_once()
        return verdicts.load(challenge)
