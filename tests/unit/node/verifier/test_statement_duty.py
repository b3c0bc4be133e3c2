"""A verifier asks for the position that was drawn of a statement, and judges the window of the request it falls on."""

from __future__ import annotations

import dataclasses
from pathlib import Path as FilePath
from typing import Any

import pytest

from consensus.runtime.inference.state import RequestStage, StageStatus
from node.p2p.errors import PeerUnreachable, RequestRefused
from node.verifier import duty as module
from node.worker.openings import OpeningUnavailable
from proto_specs.codec import decode, encode
from proto_specs.types.calls import Outcome
from proto_specs.types.request import OpeningRequest
from proto_specs.types.statement import Statement, compute_statement_id
from tests.unit.node.verifier.world import World
from tests.unit.node.worker.stating import Stating, make_shown, propose

TOKENS = (12, 30, 5)


class StatedWorld:
    """A settled statement of three requests, its workers, and a verifier whom the beacon seats."""

    def __init__(self, directory: FilePath, monkeypatch: pytest.MonkeyPatch) -> None:
        self.verifier = World(directory / "verdicts", monkeypatch)
        self.workers = Stating(directory / "workers")
        self.judged: list[tuple[int, int]] = []
        """(sequence number, window) of each opening that reached the judge."""
        self.is_silent = False
        judge = self.verifier.judge.judge

        def note(opening: Any, *rest: Any) -> Any:
            self.judged.append((opening.order.sequence, opening.window_start // 32))
            return judge(opening, *rest)

        monkeypatch.setattr(self.verifier.judge, "judge", note)
        monkeypatch.setattr(module, "ask_peer", self._ask)

    async def _ask(self, _host: Any, _address: str, _protocol: str, body: bytes, **limits: Any) -> bytes:
        if self.is_silent:
            raise PeerUnreachable("silent")
        try:
            answer = await self.workers.archives[decode(OpeningRequest, body).stage].open(body)
        except OpeningUnavailable as error:
            raise RequestRefused(str(error)) from error
        assert len(answer) <= limits["max_response_bytes"]
        return answer

    async def settle(self) -> Statement:
        finished = [await self.workers.serve(at, tokens=count) for at, count in enumerate(TOKENS)]
        told = (await self.workers.sign(propose(finished))).statement
        self.show(told)
        return told

    def show(self, told: Statement) -> None:
        """The statement is on chain."""
        self.workers.ledger.requests[compute_statement_id(told)] = make_shown(StageStatus.CHALLENGED)
        ends, positions = (bytes(32), bytes(32)), told.positions
        stages = tuple(
            RequestStage(one.worker, bytes(32), one.start, one.end, 1, 1, 1, *ends, positions) for one in told.path
        )
        self.verifier.request = compute_statement_id(told)
        self.verifier.chain.request = dataclasses.replace(
            self.verifier.chain.request,
            prompt_tokens=told.prompt_tokens,
            tokens=told.tokens,
            positions=told.positions,
            windows=0,
            root=told.root,
            stages=stages,
            requests=told.requests,
        )

    async def draw(self, stage: int, point: int) -> Outcome | None:
        """What the verifier says of the position."""
        challenge_id = self.verifier.draw(stage, window=0)
        one = self.verifier.chain.challenges[challenge_id]
        drawn = dataclasses.replace(one.challenge, point=point)
        self.verifier.chain.challenges[challenge_id] = dataclasses.replace(one, challenge=drawn)
        self.workers.ledger.challenge = drawn
        await self.verifier.duty.run_once()
        found = self.verifier.store.load(challenge_id)
        return None if found is None else Outcome(found.outcome)


@pytest.fixture
def world(tmp_path: FilePath, monkeypatch: pytest.MonkeyPatch) -> StatedWorld:
    return StatedWorld(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    ("point", "expected"),
    [
        (0, (0, 0)),
        (31, (0, 0)),
        (32, (0, 1)),
        (39, (0, 1)),
        (40, (1, 0)),
        (119, (2, 1)),
        (120, (0, 1)),
        (132, (1, 1)),
        (157, (1, 2)),
        (166, (2, 1)),
    ],
)
@pytest.mark.parametrize("stage", [0, 1, 2])
async def test_the_window_of_the_drawn_position_is_judged(
    world: StatedWorld, stage: int, point: int, expected: tuple[int, int]
) -> None:
    told = await world.settle()
    assert (told.prompt_tokens, told.tokens) == (120, 47), "points: the prompts of all, then the tokens"
    assert await world.draw(stage, point) is Outcome.PASS
    assert world.judged == [expected]


async def test_an_opening_of_another_position_is_none(world: StatedWorld, monkeypatch, autojump_clock) -> None:
    """The attack: the worker opens a request that it has computed, in place of the one that was drawn."""
    await world.settle()
    world.verifier.chain.height = 18
    honest = world._ask  # noqa: SLF001

    async def open_other(*args: Any, **limits: Any) -> bytes:
        drawn = world.workers.ledger.challenge
        world.workers.ledger.challenge = dataclasses.replace(drawn, point=0)
        asked = dataclasses.replace(decode(OpeningRequest, args[3]), point=0)
        answer = await honest(*args[:3], encode(asked), **limits)
        world.workers.ledger.challenge = drawn
        return answer

    monkeypatch.setattr(module, "ask_peer", open_other)
    assert await world.draw(1, 60) is Outcome.UNAVAILABLE
    assert world.judged == []
