"""Admission: everything a single submission promises, by the batch; floods are refused at the door."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import trio

from consensus.runtime.errors import BadSignature, CannotPayFee, StaleNonce
from genesis.dev import get_dev_identity
from node.chain import admission as admission_module
from node.chain.admission import PoolBusy, Ticket, TransactionAdmission
from node.chain.mempool import AlreadyKnown
from node.signatures.jobs import SignatureJob
from node.signatures.processes import SignatureProcesses
from proto_specs.types.calls import Remark
from proto_specs.types.chain import Transaction, compute_extrinsic_hash
from tests.unit.node.world import World, sign_call


class CountingProcesses(SignatureProcesses):
    """Counts the signatures it is asked for."""

    def __init__(self) -> None:
        super().__init__(0)
        self.asked: list[SignatureJob] = []

    async def check(self, jobs: object) -> list[bool]:
        assert isinstance(jobs, list)
        self.asked += jobs
        return await super().check(jobs)


@asynccontextmanager
async def admit(world: World) -> AsyncIterator[tuple[TransactionAdmission, CountingProcesses]]:
    signatures = CountingProcesses()
    admission = TransactionAdmission(world.pool, signatures)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(admission.run)
        yield admission, signatures
        nursery.cancel_scope.cancel()


async def wait(ticket: Ticket) -> list[object]:
    with trio.fail_after(10):
        await ticket.done.wait()
    return list(ticket.outcomes)


def spoil(transaction: Transaction) -> Transaction:
    return replace(transaction, signature=bytes(64))


async def test_outcomes_are_in_order_and_one_bad_one_spoils_no_other(world: World) -> None:
    good = [world.transfer(nonce) for nonce in range(20)]
    mixed = [*good[:5], spoil(good[5]), *good[5:], good[0]]
    async with admit(world) as (admission, _):
        outcomes = await wait(admission.hand_in(mixed, 1))
        assert isinstance(outcomes[5], BadSignature)
        assert isinstance(outcomes[-1], AlreadyKnown)
        assert outcomes[:5] + outcomes[6:-1] == [compute_extrinsic_hash(one) for one in good]
        assert len(world.pool) == 20


async def test_tickets_are_admitted_in_the_order_they_were_handed_in(world: World) -> None:
    """An account's nonces come in order over many tickets and batches: none is refused for a gap."""
    async with admit(world) as (admission, _):
        tickets = [admission.hand_in([world.transfer(nonce)], 200) for nonce in range(1_300)]
        for nonce, ticket in enumerate(tickets):
            assert await wait(ticket) == [compute_extrinsic_hash(world.transfer(nonce))]


async def test_what_could_never_be_in_a_block_costs_no_signature_check(world: World) -> None:
    world.add_block([world.transfer(0)])
    stale = world.transfer(0)
    poor = sign_call(world.genesis.hash, get_dev_identity("nobody"), 0, Remark(b""))
    async with admit(world) as (admission, signatures):
        outcomes = await wait(admission.hand_in([stale, poor], 1))
        assert [type(one) for one in outcomes] == [StaleNonce, CannotPayFee]
        assert signatures.asked == []


async def test_a_signature_is_checked_once(world: World) -> None:
    one = world.transfer(0)
    async with admit(world) as (admission, signatures):
        await wait(admission.hand_in([one], 1))
        await wait(admission.hand_in([one], 1))
        assert len(signatures.asked) == 1
        done = world.add_block([one])
        assert world.pool.list_unseen(done.block.transactions) == []


async def test_a_block_between_preparing_and_admitting_is_noticed(world: World) -> None:
    """The same transaction came in a block meanwhile: admitting it on the old check would keep it for ever."""
    one = world.transfer(0)
    prepared = world.pool.prepare(one)
    world.add_block([one])
    with pytest.raises(StaleNonce):
        world.pool.admit(prepared, is_signed=True)
    assert len(world.pool) == 0


async def test_a_flood_is_refused_at_the_door(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission_module, "WAITING_MAX", 10)
    monkeypatch.setattr(admission_module, "WAITING_BYTES_MAX", 10_000)
    admission = TransactionAdmission(world.pool, SignatureProcesses(0))
    transactions = [world.transfer(nonce) for nonce in range(12)]
    kept = admission.hand_in(transactions[:10], 5_000)
    refused = [admission.hand_in(transactions[10:], 10)]
    assert not kept.done.is_set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(admission.run)
        assert await wait(kept) == [compute_extrinsic_hash(one) for one in transactions[:10]]
        assert await wait(admission.hand_in(transactions[10:], 10_000)) != refused[0].outcomes, "there is room again"
        refused.append(admission.hand_in(transactions[:1], 10_001))
        nursery.cancel_scope.cancel()
    for ticket in refused:
        assert ticket.done.is_set()
        assert all(isinstance(one, PoolBusy) for one in ticket.outcomes)
