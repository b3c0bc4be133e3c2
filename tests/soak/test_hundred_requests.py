"""A hundred honest requests in a row on one running network, every stage of every one drawn: nobody is accused."""

from __future__ import annotations

from pathlib import Path

import pytest

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import StageStatus
from inference.model.store import ShardStore
from inference.model.tokenizer.tokenizer import Tokenizer
from node.cli.ask import open_client_host
from node.cli.connect import open_account
from node.client.answer import Ask
from node.client.following import Happening, StageResolved, follow_request
from node.client.inference import open_inference
from node.client.purse import PoolRules
from proto_specs.types.calls import Outcome
from proto_specs.types.sampling import SamplingParams
from tests.integration.demo.conftest import open_running

REQUESTS = 100
MAX_PRICE = 200_000


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_hundred_honest_requests_accuse_nobody(tmp_path: Path) -> None:
    resolved: list[StageResolved] = []

    def report(happening: Happening) -> None:
        if isinstance(happening, StageResolved):
            resolved.append(happening)

    async with open_running(tmp_path) as running:
        tokenizer = Tokenizer.load(ShardStore(Path(running.plan.models)), running.model)
        async with (
            open_account(running.rpc_url, "dev:client", None) as (account, _),
            open_client_host() as host,
            open_inference(account, host, tmp_path / "sessions", PoolRules(), lambda _: None) as inference,
        ):
            for number in range(REQUESTS):
                question = f"Tell me one thing about the number {number}."
                prompt = tuple(tokenizer.encode_chat([{"role": "user", "content": question}]))
                sampling = SamplingParams(700 if number % 2 else 0, 0, 950, number)
                async with inference.ask(Ask(running.model, prompt, 12, sampling, MAX_PRICE)) as answer:
                    async for _ in answer:
                        pass
                done = await follow_request(account.chain, answer.request, report)
                assert done.found.returned == 0
        assert len(resolved) == 3 * REQUESTS
        assert all(one.status is StageStatus.PAID for one in resolved)
        assert all(one.challenge is not None and one.challenge.outcome == Outcome.PASS for one in resolved)
        worst = max(one.challenge.distance_ppb for one in resolved if one.challenge is not None)
        print(f"\n{len(resolved)} stages drawn and passed, worst distance {worst} ppb of 30000")
        for entry in await running.chain.list_workers(running.model):
            worker = await running.chain.read(queries.read_worker, entry.worker)
            assert worker is not None
            assert (worker.passes, worker.fails, worker.unavailable) == (REQUESTS, 0, 0)
