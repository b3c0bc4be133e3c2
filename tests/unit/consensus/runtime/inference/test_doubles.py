"""Double promises: what convicts, what does not, where the bond goes, and when it returns."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.balances.errors import InsufficientBalance
from consensus.runtime.balances.state import HoldReason, read_account, read_hold, read_issuance
from consensus.runtime.inference import errors, queries
from consensus.runtime.inference.promise_events import ClientBondReturned, ClientConvicted
from consensus.runtime.inference.state import Session
from genesis.dev import get_dev_identity
from proto_specs.types import calls
from proto_specs.types.promise_calls import PromisedByOrder, PromisedByStatement, ReportDoublePromise
from proto_specs.types.request import (
    SignedOrder,
    Voucher,
    compute_request_id,
    compute_session_id,
    sign_order,
    sign_voucher,
)
from proto_specs.types.statement import Span, Statement, sign_statement_as_client
from proto_specs.types.sum_tree import RequestLeaf, StatementPlace, find_place, list_levels
from tests.unit.consensus.runtime.inference.inference_world import DEPOSIT, PRICE, SLICE, World, pick

BOND = DEPOSIT // 5
REPORTER = get_dev_identity("eve")


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World(client_bond_permille=200, client_bond_blocks=50, client_compensation_permille=500)


def read(world: World) -> Session:
    session = queries.read_session(world.chain.state, world.session)
    assert session is not None
    return session


def report(one: SignedOrder, other: SignedOrder, voucher: Any = None) -> ReportDoublePromise:
    return ReportDoublePromise(one, voucher, PromisedByOrder(other))


def test_the_bond_is_held_with_the_deposit_and_grows_with_it(world: World) -> None:
    assert read(world).bond == BOND == read_hold(world.chain.state, world.client.account, HoldReason.CLIENT_BOND)
    world.chain.expect_ok(world.client, calls.TopUpSession(world.session, DEPOSIT))
    assert read(world).bond == 2 * BOND


def test_opening_says_what_is_needed(world: World) -> None:
    free = read_account(world.chain.state, world.client.account).free
    opening = calls.OpenSession(world.model, world.session_key.public_key, PRICE, free - 1_000, 100)
    world.chain.expect_error(world.client, opening, InsufficientBalance)
    world.chain.expect_error(world.client, calls.TopUpSession(world.session, free - 1_000), InsufficientBalance)


@pytest.mark.parametrize(
    "fields",
    [{"sequence": 0, "prompt_tokens": 41}, {"slice_start": SLICE - 1}, {"slice_start": 0, "slice_end": 1}],
)
def test_one_number_or_one_position_twice_convicts(world: World, fields: dict[str, int]) -> None:
    first, second = world.order(0), world.order(**{"sequence": 1, **fields})
    before = read_account(world.chain.state, REPORTER.account).free
    issued = read_issuance(world.chain.state)
    receipt = world.chain.expect_ok(REPORTER, report(first, second))
    (convicted,) = pick(receipt.events, ClientConvicted)
    assert (convicted.amount, convicted.bounty, convicted.compensation) == (BOND, BOND // 10, 0)
    assert convicted.burned == BOND - BOND // 10
    assert read_account(world.chain.state, REPORTER.account).free == before + BOND // 10 - receipt.fee
    assert read_issuance(world.chain.state) <= issued - convicted.burned
    assert (read(world).bond, read(world).is_convicted) == (0, True)
    assert read_hold(world.chain.state, world.client.account, HoldReason.CLIENT_BOND) == 0
    world.chain.expect_error(REPORTER, report(second, first), errors.AlreadyConvicted)
    world.chain.expect_error(world.client, calls.TopUpSession(world.session, 1), errors.SessionConvicted)
    world.chain.expect_ok(world.workers[0], world.settle())


def test_the_workers_of_the_unpaid_order_share_what_was_vouched_for(world: World) -> None:
    first, second = world.order(0), world.order(1, slice_start=0)
    world.chain.expect_ok(world.workers[0], world.settle_order(first))
    voucher = sign_voucher(Voucher(compute_request_id(second.order), 60, b"t" * 32, True), world.session_key)
    before = [read_account(world.chain.state, one.account).free for one in world.workers]
    receipt = world.chain.expect_ok(REPORTER, report(second, first, voucher))
    (convicted,) = pick(receipt.events, ClientConvicted)
    owed = 3 * 2 * (40 * PRICE // 2 + 60 * PRICE)
    assert convicted.compensation == min(owed, BOND // 2)
    after = [read_account(world.chain.state, one.account).free for one in world.workers]
    assert [two - one for one, two in zip(before, after, strict=True)] == [convicted.compensation // 3] * 3


def test_nobody_is_compensated_for_an_order_that_was_paid_or_beyond_the_share(world: World) -> None:
    small = World(client_bond_permille=1, client_bond_blocks=50, client_compensation_permille=700)
    first, second = small.order(0), small.order(1, slice_start=0)
    voucher = sign_voucher(Voucher(compute_request_id(second.order), 60, b"t" * 32, True), small.session_key)
    (convicted,) = pick(small.chain.expect_ok(REPORTER, report(second, first, voucher)).events, ClientConvicted)
    bond = DEPOSIT // 1_000
    assert convicted.compensation <= bond * 7 // 10
    assert convicted.burned >= bond * 2 // 10, "a client that reports itself loses this"
    first, second = world.order(0), world.order(1, slice_start=0)
    world.chain.expect_ok(world.workers[0], world.settle_order(first))
    paid = sign_voucher(Voucher(compute_request_id(first.order), 60, b"t" * 32, True), world.session_key)
    (convicted,) = pick(world.chain.expect_ok(REPORTER, report(first, second, paid)).events, ClientConvicted)
    assert convicted.compensation == 0


def test_what_does_not_convict(world: World) -> None:
    first, second = world.order(0), world.order(1)
    double = world.order(0, prompt_tokens=41)
    unsigned = sign_order(double.order, world.client.account_key)
    for one, other in ((first, second), (first, first), (first, unsigned)):
        world.chain.expect_error(REPORTER, report(one, other), errors.NoDoublePromise)
    world.chain.expect_error(REPORTER, report(unsigned, first), errors.BadOrderSignature)
    elsewhere = world.order(0, session=world.open_session())
    world.chain.expect_error(REPORTER, report(first, elsewhere), errors.NoDoublePromise)
    unknown = compute_session_id(world.client.account, 999)
    world.chain.expect_error(REPORTER, report(world.order(session=unknown), first), errors.UnknownSession)
    world.chain.expect_error(REPORTER, report(world.order(genesis=bytes(32)), first), errors.WrongChain)
    foreign = sign_voucher(Voucher(bytes(32), 1, b"t" * 32, False), world.session_key)
    world.chain.expect_error(REPORTER, report(first, double, foreign), errors.BadVoucher)


def state(world: World, orders: list[SignedOrder]) -> tuple[Statement, list[RequestLeaf]]:
    """A statement over these orders, each with an answer of 60 tokens."""
    leaves = [
        RequestLeaf(
            request=compute_request_id(one.order),
            sequence=one.order.sequence,
            slice_start=one.order.slice_start,
            slice_end=one.order.slice_end,
            prompt_tokens=40,
            settled_positions=0,
            positions=99,
            tokens=60,
            tokens_hash=b"t" * 32,
            final=True,
            boundaries=(b"r" * 32,) * 4,
        )
        for one in orders
    ]
    order, levels = orders[0].order, list_levels(leaves)
    (root,) = levels[-1]
    count = len(leaves)
    spans = (Span(0, count),), (Span(0, count * SLICE),)
    made = Statement(
        order.genesis, order.session, order.path, count, root.prompt, root.tokens, 99 * count, *spans, root.hash
    )
    return made, leaves


def test_a_request_in_a_statement_is_a_promise_too(world: World) -> None:
    statement, leaves = state(world, [world.order(number) for number in range(5)])
    place = find_place(leaves, list_levels(leaves), 40 * 3 + 1)
    assert place.leaf.sequence == 3
    signature = sign_statement_as_client(statement, world.session_key)
    other = world.order(7, slice_start=4 * SLICE - 1)
    forged = sign_statement_as_client(statement, world.client.account_key)
    elsewhere = StatementPlace(place.leaf, 2, place.siblings)
    for bad in (
        PromisedByStatement(statement, forged, place),
        PromisedByStatement(statement, signature, elsewhere),
    ):
        world.chain.expect_error(REPORTER, ReportDoublePromise(other, None, bad), errors.NoDoublePromise)
    promised = PromisedByStatement(statement, signature, place)
    itself = ReportDoublePromise(world.order(3), None, promised)
    world.chain.expect_error(REPORTER, itself, errors.NoDoublePromise)
    receipt = world.chain.expect_ok(REPORTER, ReportDoublePromise(other, None, promised))
    assert pick(receipt.events, ClientConvicted)[0].other == place.leaf.request


def test_a_statement_over_another_path_needs_no_place(world: World) -> None:
    """Its leaves are not on chain. Requests of one path do not contradict its own statement."""
    statement, _ = state(world, [world.order(number) for number in range(5)])
    signature = sign_statement_as_client(statement, world.session_key)
    promised = PromisedByStatement(statement, signature, None)
    path = statement.path
    dearer = (replace(path[0], prefill_price=path[0].prefill_price + 1), *path[1:])
    for order in (world.order(3), world.order(5), world.order(5, path=dearer)):
        world.chain.expect_error(REPORTER, ReportDoublePromise(order, None, promised), errors.NoDoublePromise)
    receipt = world.chain.expect_ok(REPORTER, ReportDoublePromise(world.order(3, path=dearer), None, promised))
    assert pick(receipt.events, ClientConvicted)


def test_the_bond_returns_a_while_after_the_end(world: World) -> None:
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    world.chain.skip(10 + 49)
    assert read(world).bond == BOND
    (returned,) = pick(world.chain.skip(1), ClientBondReturned)
    assert (returned.client, returned.bond) == (world.client.account, BOND)
    assert read(world).bond == 0
    twice = report(world.order(0), world.order(0, prompt_tokens=41))
    world.chain.expect_error(REPORTER, twice, errors.EvidenceTooLate)


def test_a_bond_that_outlasts_its_session_s_record_returns_with_it() -> None:
    world = World(client_bond_permille=200, client_bond_blocks=500, retention_blocks=100)
    world.chain.expect_ok(world.client, calls.CloseSession(world.session))
    events = world.chain.skip(10 + 100)
    assert pick(events, ClientBondReturned)
    assert read_hold(world.chain.state, world.client.account, HoldReason.CLIENT_BOND) == 0
    world.chain.skip(500)
