"""Transactions between nodes: told once by whoever took them, admitted like a user's; a flood costs its sender."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from node.chain import relay as relay_module
from node.chain.admission import TransactionAdmission
from node.chain.relay import REPEAT_BLOCKS, TransactionRelay
from node.p2p.acceptance import Acceptance
from node.signatures.processes import SignatureProcesses
from proto_specs.codec import encode
from proto_specs.limits import GOSSIP_BYTES_MAX
from proto_specs.types.chain import Transaction
from proto_specs.types.gossip import TransactionBatch
from tests.unit.node.world import World


@dataclass
class Node:
    """A pool with its admission and relay."""

    world: World
    sent: list[TransactionBatch] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)

    def __post_init__(self) -> None:
        self.relay = TransactionRelay(self.world.pool, self.publish)
        self.admission = TransactionAdmission(self.world.pool, SignatureProcesses(0), self.relay.announce)

    def publish(self, batch: TransactionBatch) -> None:
        self.sent.append(batch)
        self.news.set()
        self.news = trio.Event()

    async def receive(self, *transactions: Transaction, peer: str = "peer") -> Acceptance:
        return await self.relay.receive(self.admission, peer, TransactionBatch(transactions))

    async def submit(self, *transactions: Transaction) -> None:
        await self.admission.hand_in(transactions, 1).done.wait()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.admission.run)
            nursery.start_soon(self.relay.run)
            yield
            nursery.cancel_scope.cancel()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(World(tmp_path / "db"))


async def test_what_a_user_hands_in_is_told_once_and_together(node: Node, autojump_clock: MockClock) -> None:
    transfers = tuple(node.world.transfer(nonce) for nonce in range(3))
    async with node.running():
        await node.submit(*transfers)
        await trio.sleep(1)
    assert node.sent == [TransactionBatch(transfers)]


async def test_what_a_peer_tells_is_admitted_and_not_told_again(node: Node, autojump_clock: MockClock) -> None:
    transfer = node.world.transfer(0)
    async with node.running():
        assert await node.receive(transfer) is Acceptance.ACCEPT
        assert await node.receive(transfer) is Acceptance.IGNORE
        await trio.sleep(1)
    assert len(node.world.pool) == 1
    assert node.sent == []


async def test_a_bad_signature_is_its_senders_fault_and_an_old_nonce_nobodys(
    node: Node, autojump_clock: MockClock
) -> None:
    good = node.world.transfer(0)
    node.world.add_block([good])
    forged = replace(node.world.transfer(1), signature=bytes(64))
    async with node.running():
        assert await node.receive(good) is Acceptance.IGNORE
        assert await node.receive(node.world.transfer(2), forged) is Acceptance.REJECT


async def test_a_flooder_is_passed_over_and_nobody_else_is(node: Node) -> None:
    node.relay._rate = relay_module.RateLimit(0.001, 5)  # noqa: SLF001
    transfers = [node.world.transfer(nonce) for nonce in range(8)]
    async with node.running():
        assert await node.receive(*transfers[:5], peer="flooder") is Acceptance.ACCEPT
        assert await node.receive(*transfers[5:7], peer="flooder") is Acceptance.IGNORE
        assert await node.receive(transfers[5], peer="other") is Acceptance.ACCEPT


async def test_what_still_waits_is_told_again_every_few_blocks(node: Node, autojump_clock: MockClock) -> None:
    waiting, gone = node.world.transfer(1), node.world.transfer(0)
    async with node.running():
        await node.submit(gone, waiting)
        await trio.sleep(1)
        node.world.add_block([gone])
        for _ in range(REPEAT_BLOCKS):
            node.world.add_block()
        await trio.sleep(6)
    assert [batch.transactions for batch in node.sent] == [(gone, waiting), (waiting,)]


async def test_batches_fit_gossip(node: Node, autojump_clock: MockClock) -> None:
    transfers = tuple(node.world.transfer(nonce) for nonce in range(1_200))
    async with node.running():
        await node.submit(*transfers)
        await trio.sleep(1)
    assert [one for batch in node.sent for one in batch.transactions] == list(transfers)
    assert all(len(encode(batch)) <= GOSSIP_BYTES_MAX for batch in node.sent)
    assert len(node.sent) > 1
