"""A cheap worker that stopped blocks nobody: over real libp2p another one serves the same layers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import trio

from node.client.answer import Ask, Generated
from node.client.escrow_bank import NewSession
from node.client.inference import InferenceParts, PaidInference
from node.client.paid_answer import PaidAnswer
from node.client.purse import PoolRules
from node.client.routes import Routes
from node.client.session_files import SessionFiles, SessionNote
from node.client.session_pool import open_pool
from node.client.transport import P2PTransport
from node.client.worker_memory import WorkerMemory
from tests.integration.conftest import Model
from tests.integration.node.worker.network import GENESIS, GREEDY, SESSION, SESSION_KEY, Network, open_network
from tests.unit.node.client.banks import FakeBank, FakeSession

pytestmark = pytest.mark.slow

PROMPT = tuple(range(100, 140))


class OneSession(FakeBank):
    """A bank whose one session is the network's."""

    async def open(self, model: bytes, max_price: int, deposit: int, requests_max: int) -> NewSession:
        kept = self.files.keep(SessionNote(SESSION, SESSION_KEY.seed, model, 0))
        self.sessions[SESSION] = FakeSession(deposit, requests_max, self.height)
        expiry = self.height + self.lifetime
        return NewSession(SESSION, SESSION_KEY, deposit, requests_max, self.height, expiry, kept)


class HeightChain:
    """The network's chain, which stands at a block."""

    def __init__(self, network: Network) -> None:
        self.genesis = GENESIS
        self.list_workers = network.chain.list_workers
        self.get_manifest = network.chain.get_manifest

    async def get_height(self) -> int:
        return 1


async def test_a_stopped_cheap_worker_blocks_nobody(model: Model, tmp_path: Path) -> None:
    layers = model.manifest.architecture.layers
    async with open_network(model, [(0, layers), (0, layers)]) as network:
        cheap, dear = (one.entry.worker for one in network.stages)
        network.chain.workers[dear] = dataclasses.replace(network.chain.workers[dear], prefill_price=3, decode_price=3)
        bank = OneSession(SessionFiles(tmp_path, GENESIS, bytes(32)))
        chain = HeightChain(network)
        rules = PoolRules(deposit=100_000)
        async with open_pool(bank, bank.files, rules, lambda _: None) as pool, trio.open_nursery() as nursery:
            routes = Routes(chain, WorkerMemory())
            parts = InferenceParts(chain, P2PTransport(network.client), pool, routes, nursery)  # type: ignore[arg-type]
            inference = PaidInference(parts)
            assert (await ask(inference, model)).workers[0].worker == cheap
            warm = await ask(inference, model)
            assert warm.times.ordered_s < 0.1, "a warm request begins without the chain and without dialling"
            print(f"\n{warm.times}")
            network.stages[0].scope.cancel()
            await network.stages[0].ended.wait()
            for _ in range(7):
                answer = await ask(inference, model)
                assert answer.workers[0].worker == dear
            held = pool.find(SESSION)
            assert held is not None
            assert (held.book.dead, held.book.vouched + held.book.running) == (0, 9)
            nursery.cancel_scope.cancel()


async def ask(inference: PaidInference, model: Model) -> PaidAnswer:
    async with inference.ask(Ask(model.model_id, PROMPT, 4, GREEDY, 10)) as answer:
        tokens = [one.token async for one in answer if isinstance(one, Generated)]
    assert tokens
    return answer
