"""What peers tell: nobody is blamed for another's head, nobody gets us blamed, floods cost only the flooder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio
import trio.testing

from node.chain import relay as relay_module
from node.chain.admission import TransactionAdmission
from node.chain.relay import PEER_WAITING_MAX, TransactionRelay
from node.p2p.acceptance import Acceptance
from node.signatures.processes import SignatureProcesses
from proto_specs.types.chain import Transaction
from proto_specs.types.gossip import TransactionBatch
from tests.unit.node.world import World


@asynccontextmanager
async def relaying(
    world: World,
) -> AsyncIterator[tuple[TransactionRelay, TransactionAdmission, list[TransactionBatch]]]:
    published: list[TransactionBatch] = []
    relay = TransactionRelay(world.pool, published.append)
    admission = TransactionAdmission(world.pool, SignatureProcesses(0), relay.announce)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(admission.run)
        nursery.start_soon(relay.run)
        yield relay, admission, published
        nursery.cancel_scope.cancel()


def spoil(transaction: Transaction) -> Transaction:
    return replace(transaction, signature=bytes(64))


def batch(*transactions: Transaction) -> TransactionBatch:
    return TransactionBatch(transactions)


async def test_a_bad_signature_is_the_fault_of_whoever_passed_it_on(world: World) -> None:
    async with relaying(world) as (relay, admission, _):
        mixed = batch(world.transfer(0), spoil(world.transfer(1)))
        assert await relay.receive(admission, "peer", mixed) is Acceptance.REJECT
        assert len(world.pool) == 1, "the good one is kept"


async def test_what_is_invalid_on_our_head_only_is_passed_on_when_it_is_signed(world: World) -> None:
    stale = world.transfer(0)
    world.add_block([stale])
    async with relaying(world) as (relay, admission, _):
        assert await relay.receive(admission, "peer", batch(stale)) is Acceptance.IGNORE
        assert await relay.receive(admission, "peer", batch(stale, world.transfer(1))) is Acceptance.ACCEPT


async def test_nobody_gets_us_to_pass_on_a_bad_signature_that_others_would_blame_on_us(world: World) -> None:
    """It is refused here for its nonce, unchecked; a node one block behind would look at its signature."""
    stale = world.transfer(0)
    world.add_block([stale])
    async with relaying(world) as (relay, admission, _):
        assert await relay.receive(admission, "peer", batch(spoil(stale), world.transfer(1))) is Acceptance.IGNORE
        assert len(world.pool) == 1


async def test_a_flooder_is_limited_and_costs_only_itself(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay_module, "PEER_TRANSACTIONS_PER_S", 0.001)
    monkeypatch.setattr(relay_module, "PEER_BURST_TRANSACTIONS", 1_000)
    junk = batch(*(spoil(world.transfer(10**6 + number)) for number in range(100)))
    async with relaying(world) as (relay, admission, _):
        for _ in range(10):
            assert await relay.receive(admission, "flooder", junk) is not Acceptance.ACCEPT
        with monkeypatch.context() as patched:
            computed: list[object] = []
            patched.setattr(relay_module, "compute_extrinsic_hash", computed.append)
            assert await relay.receive(admission, "flooder", junk) is Acceptance.IGNORE
            assert not computed, "nothing is computed for it any more"
        assert await relay.receive(admission, "honest", batch(world.transfer(0))) is Acceptance.ACCEPT


async def test_a_flooder_has_a_share_of_the_queue_and_users_have_the_rest(world: World) -> None:
    """All its batches come at once, before any is admitted."""
    verdicts: list[Acceptance] = []
    async with relaying(world) as (relay, admission, _):
        async with trio.open_nursery() as nursery:

            async def receive(peer: str, given: TransactionBatch) -> None:
                verdicts.append(await relay.receive(admission, peer, given))

            for peer in range(8):
                for number in range(6):
                    given = batch(*[spoil(world.transfer(10**6 + number))] * 512)
                    nursery.start_soon(receive, f"flooder-{peer}", given)
            await trio.testing.wait_all_tasks_blocked()
            own = admission.hand_in([world.transfer(0)], 200)
            await own.done.wait()
        assert isinstance(own.outcomes[0], bytes)
        assert PEER_WAITING_MAX < 6 * 512
        assert len(verdicts) == 48


async def test_an_honest_burst_of_a_thousand_a_second_passes(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with relaying(world) as (relay, admission, _):
        for second in range(3):
            for part in range(4):
                nonces = range(40 * second + 10 * part, 40 * second + 10 * part + 10)
                given = batch(*(world.transfer(nonce) for nonce in nonces))
                assert await relay.receive(admission, "peer", given) is Acceptance.ACCEPT
            await trio.sleep(1)
        assert len(world.pool) == 120
