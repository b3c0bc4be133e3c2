"""A client fills a worker's disk for nothing: it signs windows, never vouches, and orders the next answer."""

from __future__ import annotations

import pytest
import trio

from node.worker.orders import admit_order
from node.worker.outstanding import UNSETTLED_MAX, UNSETTLED_S, Outstanding
from node.worker.refusal import OrderRefused
from proto_specs.types.wire import FailureCode
from tests.property.inference.serving.harness import WORKER_KEYS, make_manifest
from tests.unit.node.worker.world import SESSION, DictChain, change_order, change_session, make_chain

OWN = WORKER_KEYS[1].public_key


async def serve(chain: DictChain, outstanding: Outstanding, sequence: int) -> None:
    order = change_order(sequence=sequence)
    await admit_order(order, chain.workers[OWN], make_manifest(), chain, outstanding)
    outstanding.end(order.order, is_settling=True)
    await trio.sleep(200)


@pytest.fixture(name="chain")
def fixture_chain() -> DictChain:
    chain = make_chain()
    change_session(chain, deposit=10**7, escrow=10**7, requests_left=1000)
    return chain


async def test_a_session_that_settles_nothing_is_served_a_few_times(chain: DictChain, autojump_clock) -> None:
    outstanding = Outstanding()
    for sequence in range(UNSETTLED_MAX):
        await serve(chain, outstanding, sequence)
    with pytest.raises(OrderRefused, match=f"{UNSETTLED_MAX} requests of the session are not settled") as refused:
        await serve(chain, outstanding, 900)
    assert refused.value.code is FailureCode.NO_CAPACITY
    chain.used.add((SESSION, 2))
    await serve(chain, outstanding, 901)
    with pytest.raises(OrderRefused):
        await serve(chain, outstanding, 902)


async def test_a_session_whose_settlements_come_is_served_on(chain: DictChain, autojump_clock) -> None:
    outstanding = Outstanding()
    for sequence in range(3 * UNSETTLED_MAX):
        await serve(chain, outstanding, sequence)
        chain.used.add((SESSION, sequence))
    assert len(chain.used) == 3 * UNSETTLED_MAX, "none was refused"


async def test_settlements_under_way_count_nothing(chain: DictChain, autojump_clock) -> None:
    outstanding = Outstanding()
    for sequence in range(3 * UNSETTLED_MAX):
        order = change_order(sequence=sequence)
        await admit_order(order, chain.workers[OWN], make_manifest(), chain, outstanding)
        outstanding.end(order.order, is_settling=True)
    await trio.sleep(UNSETTLED_S - 1)
    await serve(chain, outstanding, 999)


async def test_settlements_that_are_brought_and_never_submitted_count_as_well(chain: DictChain, autojump_clock) -> None:
    """The attack: friends who are workers sign for a prompt, others compute it again unpaid, and no friend submits."""
    outstanding = Outstanding()
    for sequence in range(UNSETTLED_MAX):
        outstanding.expect(SESSION, sequence)
    await trio.sleep(UNSETTLED_S + 1)
    with pytest.raises(OrderRefused, match="not settled"):
        await serve(chain, outstanding, 900)
