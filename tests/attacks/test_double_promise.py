"""A client promises the same positions of its deposit twice: who sees it, and what it costs whom at most."""

from __future__ import annotations

from typing import Any

import pytest

from consensus.runtime.inference import errors, queries
from consensus.runtime.inference.events import RequestSettled
from consensus.runtime.inference.promise_events import ClientConvicted
from genesis.dev import DevIdentity, get_dev_identity
from node.client.rpc_chain import make_session_entry
from node.worker.orders import admit_order
from node.worker.outstanding import Outstanding
from node.worker.refusal import OrderRefused
from proto_specs.types import calls
from proto_specs.types.promise_calls import PromisedByOrder, ReportDoublePromise
from proto_specs.types.request import SignedOrder
from proto_specs.types.wire import FailureCode
from tests.property.inference.serving.harness import WORKER_KEYS, make_manifest
from tests.unit.consensus.runtime.inference.inference_world import REQUEST_PRICE, World, pick
from tests.unit.node.worker.world import DictChain, change_order, make_chain

SLICE = {"slice_start": 0, "slice_end": REQUEST_PRICE}
OTHERS = ("eve", "ferdie", "alice")
"""Three workers that have nothing to do with the first path's."""


async def try_taking(chain: DictChain, stage: int, order: SignedOrder, outstanding: Outstanding) -> OrderRefused | None:
    """What the worker of a stage says to an order; None when it takes it."""
    own = chain.workers[WORKER_KEYS[stage].public_key]
    try:
        await admit_order(order, own, make_manifest(), chain, outstanding)
    except OrderRefused as refusal:
        return refusal
    return None


def is_overlap(refusal: OrderRefused | None) -> bool:
    return refusal is not None and refusal.code == FailureCode.BAD_ORDER and "overlaps" in str(refusal)


async def test_every_worker_of_one_path_sees_it_by_itself() -> None:
    """No worker has to ask another one: what it took itself is enough."""
    chain = make_chain()
    books = [Outstanding() for _ in WORKER_KEYS]
    first = change_order(slice_start=0, slice_end=1_000)
    second = change_order(sequence=1, slice_start=500, slice_end=1_500)
    honest = change_order(sequence=1, slice_start=1_000, slice_end=2_000)
    for stage, outstanding in enumerate(books):
        assert await try_taking(chain, stage, first, outstanding) is None
        assert is_overlap(await try_taking(chain, stage, second, outstanding))
        assert await try_taking(chain, stage, honest, outstanding) is None


async def test_neither_dropping_the_first_nor_waiting_helps(autojump_clock: Any) -> None:
    """The first order still holds when the client leaves it, as any worker of its path may settle it."""
    chain, outstanding = make_chain(), Outstanding()
    first, second = change_order(slice_end=1_000), change_order(sequence=1, slice_start=0, slice_end=1_000)
    assert await try_taking(chain, 0, first, outstanding) is None
    outstanding.end(first.order, is_settling=False)
    assert is_overlap(await try_taking(chain, 0, second, outstanding))


@pytest.fixture(name="world")
def fixture_world() -> World:
    world = World(("heidi",), session_deposit_min=1)
    for index, who in enumerate(map(get_dev_identity, OTHERS)):
        world.chain.expect_ok(who, world.register_worker(who, 2 * index, 2 * index + 2))
    world.session = world.open_session(deposit=REQUEST_PRICE)
    return world


def serve(world: World, workers: list[DevIdentity], sequence: int, **fields: Any) -> calls.Settle:
    """A request done to its end on a path of these workers."""
    world.workers = workers
    return world.settle(sequence, **fields)


def test_on_disjoint_paths_one_slice_is_unpaid(world: World) -> None:
    """Two paths that share no worker do the work. The escrow pays one; the other loses its price, at most the slice."""
    ours, theirs = world.workers, [get_dev_identity(name) for name in OTHERS]
    first, second = serve(world, ours, 0, **SLICE), serve(world, theirs, 1, **SLICE)
    receipt = world.chain.expect_ok(theirs[0], second)
    world.chain.expect_error(ours[0], first, errors.EscrowTooLow)
    (paid,) = pick(receipt.events, RequestSettled)
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert (paid.price, session.escrow) == (session.deposit, 0), "the client has paid all that it escrowed"
    unpaid = REQUEST_PRICE
    assert unpaid <= SLICE["slice_end"] - SLICE["slice_start"]


def test_the_client_saves_nothing_by_topping_up_later(world: World) -> None:
    """A settlement that failed may come again: an honest worker is paid as soon as there is escrow."""
    ours, theirs = world.workers, [get_dev_identity(name) for name in OTHERS]
    first, second = serve(world, ours, 0, **SLICE), serve(world, theirs, 1, **SLICE)
    world.chain.expect_ok(theirs[0], second)
    world.chain.expect_error(ours[0], first, errors.EscrowTooLow)
    world.chain.expect_ok(world.client, calls.TopUpSession(world.session, REQUEST_PRICE))
    world.chain.expect_ok(ours[0], first)


def test_who_promised_disjoint_slices_pays_both_paths(world: World) -> None:
    """The same two paths and an honest client: both are paid, in whichever order they settle."""
    ours, theirs = world.workers, [get_dev_identity(name) for name in OTHERS]
    world.chain.expect_ok(world.client, calls.TopUpSession(world.session, REQUEST_PRICE))
    first = serve(world, ours, 0, **SLICE)
    second = serve(world, theirs, 1, slice_start=REQUEST_PRICE, slice_end=2 * REQUEST_PRICE)
    world.chain.expect_ok(theirs[0], second)
    world.chain.expect_ok(ours[0], first)


def test_unused_slices_do_not_let_a_client_promise_what_it_has_not(world: World) -> None:
    """The client settles cheap work over the same large slice to inflate its positions: the escrow bounds the bill."""
    ours = world.workers
    world.session = world.open_session(deposit=4 * REQUEST_PRICE)
    whole = {"slice_start": 0, "slice_end": 4 * REQUEST_PRICE}
    paid = 0
    for sequence in range(6):
        receipt = world.chain.expect_ok(ours[0], serve(world, ours, sequence, tokens=1, tokens_max=1, **whole))
        paid += pick(receipt.events, RequestSettled)[0].price
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert session.promisable > 20 * REQUEST_PRICE, "five times what was ever escrowed"
    assert session.escrow == 4 * REQUEST_PRICE - paid
    payable = session.escrow // REQUEST_PRICE
    for number in range(payable + 1):
        start = (10 + number) * REQUEST_PRICE
        full = serve(world, ours, 6 + number, slice_start=start, slice_end=start + REQUEST_PRICE)
        if number < payable:
            world.chain.expect_ok(ours[0], full)
        else:
            world.chain.expect_error(ours[0], full, errors.EscrowTooLow)


def promise_to_all(permille: int) -> tuple[World, list[calls.Settle]]:
    """One deposit promised to the workers of two paths, by a client with a bond. Both have served the whole answer."""
    world = World(("heidi",), session_deposit_min=1, client_bond_permille=permille, client_bond_blocks=100)
    for index, who in enumerate(map(get_dev_identity, OTHERS)):
        world.chain.expect_ok(who, world.register_worker(who, 2 * index, 2 * index + 2))
    world.session = world.open_session(deposit=REQUEST_PRICE)
    ours, theirs = world.workers, [get_dev_identity(name) for name in OTHERS]
    served = [serve(world, theirs, 1, **SLICE), serve(world, ours, 0, **SLICE)]
    world.chain.expect_ok(theirs[0], served[0])
    return world, served


def compute_losses(world: World, served: list[calls.Settle]) -> tuple[int, int]:
    """What the client loses by the report, and what the workers that found no escrow get of it."""
    paid, unpaid = served
    before = world.chain.free(world.workers[1])
    call = ReportDoublePromise(unpaid.order, unpaid.voucher, PromisedByOrder(paid.order))
    receipt = world.chain.expect_ok(world.workers[0], call)
    (convicted,) = pick(receipt.events, ClientConvicted)
    return convicted.amount, 3 * (world.chain.free(world.workers[1]) - before)


def test_a_second_promise_costs_the_client_its_bond_and_makes_up_for_the_unpaid_path() -> None:
    """With a bond as large as the deposit the second answer costs as much as the first, and its workers get half."""
    world, served = promise_to_all(1_000)
    world.chain.expect_error(world.workers[0], served[1], errors.EscrowTooLow)
    lost, made_up = compute_losses(world, served)
    assert lost == REQUEST_PRICE, "what the answer would have cost"
    assert made_up == REQUEST_PRICE // 2
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    assert session.is_convicted, "and no worker takes another order of it"


def test_without_a_bond_the_second_answer_is_free() -> None:
    """The defence removed."""
    world, served = promise_to_all(0)
    world.chain.expect_error(world.workers[0], served[1], errors.EscrowTooLow)
    assert compute_losses(world, served) == (0, 0)


async def test_workers_take_no_orders_of_a_convicted_session() -> None:
    world, served = promise_to_all(200)
    compute_losses(world, served)
    found = queries.read_session(world.chain.state, world.session)
    assert found is not None
    params = queries.read_params(world.chain.state)
    entry = make_session_entry(world.session, found, params, world.chain.height)
    assert not entry.is_open
    assert entry.is_settleable
