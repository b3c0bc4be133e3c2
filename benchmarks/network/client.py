"""The client of a path, in the measuring process: requests at once over libp2p, and when each token came."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from benchmarks.network.chain import SESSION_KEY, make_entry, make_path_order
from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, TokenReceived
from node.client.transport import StagePeer, connect_stages, open_request
from node.p2p.circuits import open_roaming_host
from node.p2p.host import P2PHost
from proto_specs.errors import MyelinError


class RequestBroke(MyelinError):
    """A request of a benchmark failed, so that there is nothing to measure. The message says at which stage and why."""


@dataclass
class Answered:
    """The tokens of an answer, and the second each came."""

    tokens: list[int] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    asked_s: float = 0.0


@dataclass
class PathClient:
    """Asks a path of stages, as `benchmarks.network.stage` describes them."""

    model: bytes
    path: list[dict[str, Any]]
    service_class: int = 0
    sequence: int = 0

    def ask(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Answered]:
        """Every prompt at once, `tokens` greedy tokens each. Raises RequestBroke."""
        answers: list[Answered] = trio.run(self._ask_all, prompts, tokens)
        return answers

    async def _ask_all(self, prompts: Sequence[Sequence[int]], tokens: int) -> list[Answered]:
        answers = [Answered() for _ in prompts]
        failures: list[RequestBroke] = []

        async def ask(number: int) -> None:
            try:
                await self._ask(host, prompts[number], tokens, answers[number], self.sequence + number)
            except RequestBroke as error:
                failures.append(error)

        async with open_roaming_host(os.urandom(32), []) as (host, _), trio.open_nursery() as nursery:
            for number in range(len(prompts)):
                nursery.start_soon(ask, number)
        self.sequence += len(prompts)
        if failures:
            raise failures[0]
        return answers

    async def _ask(self, host: P2PHost, prompt: Sequence[int], tokens: int, answer: Answered, sequence: int) -> None:
        entries = [
            make_entry(self.model, number, (one["layers"][0], one["layers"][1]), one["peer_id"], one["addresses"])
            for number, one in enumerate(self.path)
        ]
        peers = [StagePeer(f"stage {at}", one.peer_id, one.addresses) for at, one in enumerate(entries)]
        links = await connect_stages(host, peers)
        machine = ClientRequest(
            make_path_order(self.model, entries, prompt, tokens, sequence, {"service_class": self.service_class}),
            tuple(prompt),
            SESSION_KEY,
        )
        answer.asked_s = time.perf_counter()
        async with open_request(machine, peers, links) as progress:
            async for event in progress:
                if isinstance(event, TokenReceived):
                    answer.tokens.append(event.token)
                    answer.times_s.append(time.perf_counter())
                elif isinstance(event, RequestFailed):
                    raise RequestBroke(f"stage {event.stage}: {event.message}")
                elif isinstance(event, SettlementSent):
                    return


def compute_rate(answers: Sequence[Answered]) -> float:
    """Tokens a second of all answers together, while all of them are being written."""
    begin_s = max(one.times_s[0] for one in answers)
    end_s = min(one.times_s[-1] for one in answers)
    counted = sum(sum(begin_s < at <= end_s for at in one.times_s) for one in answers)
    return counted / (end_s - begin_s)
