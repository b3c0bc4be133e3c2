"""An order is refused, with its code, for whatever would keep it from being settled; escrow is promised once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import trio

from node.worker.orders import OrderAdmission, admit_order
from node.worker.outstanding import ENDED_S_MAX, Outstanding
from node.worker.refusal import OrderRefused
from proto_specs.types.request import SignedOrder, compute_price_max, is_order_signed
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.wire import FailureCode
from tests.property.inference.serving.harness import SESSION_KEY, WORKER_KEYS, make_manifest, make_order
from tests.unit.node.worker.world import (
    PROMPT,
    SESSION,
    DictChain,
    change_order,
    change_session,
    change_worker,
    make_chain,
)

OWN = WORKER_KEYS[1].public_key
SAMPLING = SamplingParams(0, 0, 1000, 0)
PATH = make_order(PROMPT, 20, 3).order.path


async def admit(
    chain: DictChain, order: SignedOrder, outstanding: Outstanding | None = None, **manifest
) -> OrderAdmission:
    served = dataclasses.replace(make_manifest(), **manifest)
    return await admit_order(
        order, chain.workers[OWN], served, chain, Outstanding() if outstanding is None else outstanding
    )


async def get_refusal(chain: DictChain, order: SignedOrder, outstanding: Outstanding | None = None) -> OrderRefused:
    outstanding = Outstanding() if outstanding is None else outstanding
    before = len(outstanding)
    with pytest.raises(OrderRefused) as refused:
        await admit(chain, order, outstanding)
    assert len(outstanding) == before, "a refused order is not counted"
    return refused.value


async def test_an_honest_order_is_taken() -> None:
    chain, outstanding = make_chain(), Outstanding()
    admission = await admit(chain, change_order(), outstanding)
    assert admission.stage == 1
    assert [one.worker for one in admission.path] == [key.public_key for key in WORKER_KEYS]
    assert len(outstanding) == 1


def with_path(at: int, **fields: object) -> tuple:
    return tuple(dataclasses.replace(one, **fields) if number == at else one for number, one in enumerate(PATH))


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"genesis": b"x" * 32}, FailureCode.BAD_ORDER),
        ({"model": b"x" * 32}, FailureCode.UNKNOWN_MODEL),
        ({"service_class": 1}, FailureCode.BAD_ORDER),
        ({"session": b"x" * 32}, FailureCode.NO_ESCROW),
        ({"prompt_tokens": 0}, FailureCode.BAD_ORDER),
        ({"tokens_max": 0}, FailureCode.BAD_ORDER),
        ({"tokens_max": 4096}, FailureCode.BAD_ORDER),
        ({"tokens_max": 2**32 - 1}, FailureCode.BAD_ORDER),
        ({"sampling": dataclasses.replace(SAMPLING, temperature_milli=100_001)}, FailureCode.BAD_ORDER),
        ({"sampling": dataclasses.replace(SAMPLING, top_p_milli=0)}, FailureCode.BAD_ORDER),
        ({"sampling": dataclasses.replace(SAMPLING, top_p_milli=1001)}, FailureCode.BAD_ORDER),
        ({"sampling": dataclasses.replace(SAMPLING, temperature_milli=700, top_p_milli=65_535)}, FailureCode.BAD_ORDER),
        ({"path": ()}, FailureCode.NOT_MY_STAGE),
        ({"path": (PATH[0], PATH[2])}, FailureCode.NOT_MY_STAGE),
        ({"path": (PATH[0], PATH[1], PATH[1], PATH[2])}, FailureCode.NOT_MY_STAGE),
        ({"path": (PATH[0], PATH[1], PATH[0], PATH[2])}, FailureCode.BAD_ORDER),
        ({"path": PATH[:2]}, FailureCode.BAD_ORDER),
        ({"path": (*PATH, PATH[2])}, FailureCode.BAD_ORDER),
        ({"path": with_path(1, start=1)}, FailureCode.NOT_MY_STAGE),
        ({"path": with_path(1, prefill_price=0)}, FailureCode.PRICE_TOO_LOW),
        ({"path": with_path(2, decode_price=1)}, FailureCode.PRICE_TOO_LOW),
        ({"path": with_path(0, decode_price=6)}, FailureCode.BAD_ORDER),
        ({"path": with_path(0, worker=b"n" * 32)}, FailureCode.BAD_ORDER),
        ({"slice_start": 5, "slice_end": 5}, FailureCode.BAD_ORDER),
        ({"slice_start": 5, "slice_end": 4}, FailureCode.BAD_ORDER),
        ({"slice_start": 5, "slice_end": 5 + 479}, FailureCode.BAD_ORDER),
        ({"slice_start": 9_500, "slice_end": 10_001}, FailureCode.NO_ESCROW),
    ],
)
async def test_orders_that_cannot_be_settled_are_refused(fields: dict[str, object], code: FailureCode) -> None:
    assert (await get_refusal(make_chain(), change_order(**fields))).code == code


CHAINS: list[tuple[Callable[[DictChain], object], FailureCode]] = [
    (lambda chain: change_session(chain, is_open=False), FailureCode.NO_ESCROW),
    (lambda chain: change_session(chain, escrow=479), FailureCode.NO_ESCROW),
    (lambda chain: change_session(chain, deposit=999), FailureCode.NO_ESCROW),
    (lambda chain: change_session(chain, deposit=900, released=99), FailureCode.NO_ESCROW),
    (lambda chain: change_session(chain, requests_left=0), FailureCode.NO_ESCROW),
    (lambda chain: change_session(chain, model=b"x" * 32), FailureCode.BAD_ORDER),
    (lambda chain: change_session(chain, max_price=1), FailureCode.BAD_ORDER),
    (lambda chain: change_session(chain, session_key=b"x" * 32), FailureCode.BAD_ORDER),
    (lambda chain: chain.used.add((SESSION, 0)), FailureCode.BAD_ORDER),
    (lambda chain: change_worker(chain, 0, is_active=False), FailureCode.BAD_ORDER),
    (lambda chain: change_worker(chain, 1, is_active=False), FailureCode.BAD_ORDER),
    (lambda chain: change_worker(chain, 2, start=3), FailureCode.BAD_ORDER),
    (lambda chain: change_worker(chain, 2, decode_price=3), FailureCode.PRICE_TOO_LOW),
    (lambda chain: change_worker(chain, 2, gross_max=159), FailureCode.BAD_ORDER),
    (lambda chain: setattr(chain, "unjudgeable", 1), FailureCode.BAD_ORDER),
]


@pytest.mark.parametrize(("change", "code"), CHAINS)
async def test_the_chain_decides_who_is_paid(change: Callable[[DictChain], object], code: FailureCode) -> None:
    chain = make_chain()
    change(chain)
    assert (await get_refusal(chain, change_order())).code == code


async def test_bounds_are_inclusive() -> None:
    chain = make_chain()
    change_session(chain, deposit=400, released=87, escrow=480, requests_left=1, max_price=2)
    change_worker(chain, 2, gross_max=160)
    order = change_order(sampling=SamplingParams(100_000, 2**32 - 1, 1, 2**64 - 1), slice_start=7, slice_end=487)
    assert compute_price_max(order.order) == 480
    await admit(chain, order)


async def test_rows_too_wide_to_be_opened_later_are_refused() -> None:
    wide = dataclasses.replace(make_manifest().architecture, hidden=65_536)
    with pytest.raises(OrderRefused, match="opened to a verifier"):
        await admit(make_chain(), change_order(tokens_max=3000), architecture=wide)


async def test_the_same_escrow_is_promised_once_to_orders_that_come_at_once() -> None:
    """Both would pass the check before either is counted, if the count came after the chain was asked again."""
    chain, outstanding = make_chain(), Outstanding()
    change_session(chain, escrow=900)
    results: list[object] = []

    async def ask(sequence: int) -> None:
        try:
            results.append(await admit(chain, change_order(sequence=sequence), outstanding))
        except OrderRefused as refusal:
            results.append(refusal.code)

    slow = chain.get_worker

    async def get_worker_slowly(worker: bytes):
        await trio.testing.wait_all_tasks_blocked()
        return await slow(worker)

    chain.get_worker = get_worker_slowly  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 0)
        nursery.start_soon(ask, 1)
    assert sorted(map(str, results), key=len)[0] == str(FailureCode.NO_ESCROW)
    assert len(outstanding) == 1


async def test_the_same_order_or_number_twice_is_refused() -> None:
    chain, outstanding = make_chain(), Outstanding()
    await admit(chain, change_order(), outstanding)
    assert (await get_refusal(chain, change_order(), outstanding)).code == FailureCode.BAD_ORDER
    other = change_order(tokens_max=19, slice_start=2_000, slice_end=3_000)
    refusal = await get_refusal(chain, other, outstanding)
    assert (refusal.code, "is taken" in str(refusal)) == (FailureCode.BAD_ORDER, True)


@pytest.mark.parametrize(("start", "end"), [(0, 1_000), (999, 2_000), (0, 3_000), (400, 900)])
async def test_no_position_is_taken_twice(start: int, end: int) -> None:
    chain, outstanding = make_chain(), Outstanding()
    await admit(chain, change_order(), outstanding)
    refusal = await get_refusal(chain, change_order(sequence=1, slice_start=start, slice_end=end), outstanding)
    assert (refusal.code, "overlaps" in str(refusal)) == (FailureCode.BAD_ORDER, True)
    await admit(chain, change_order(sequence=1, slice_start=1_000, slice_end=1_500), outstanding)


async def test_positions_are_of_a_session() -> None:
    chain, outstanding = make_chain(), Outstanding()
    chain.sessions[b"2" * 32] = dataclasses.replace(chain.sessions[SESSION], session=b"2" * 32)
    await admit(chain, change_order(), outstanding)
    await admit(chain, change_order(session=b"2" * 32), outstanding)


@pytest.mark.parametrize("is_settling", [True, False])
async def test_an_ended_order_keeps_its_slice_while_it_may_still_settle(autojump_clock, is_settling: bool) -> None:
    """Another worker of its path may settle it though this one does not."""
    chain, outstanding = make_chain(), Outstanding()
    order = change_order()
    again = change_order(sequence=1, slice_start=0, slice_end=1_000)
    await admit(chain, order, outstanding)
    outstanding.end(order.order, is_settling)
    await trio.sleep(ENDED_S_MAX)
    assert "overlaps" in str(await get_refusal(chain, again, outstanding))
    await trio.sleep(1)
    await admit(chain, again, outstanding)


async def test_a_session_takes_no_more_requests_than_it_was_opened_for() -> None:
    chain, outstanding = make_chain(), Outstanding()
    for sequence in range(3):
        await admit(chain, change_order(sequence=sequence), outstanding)
    refusal = await get_refusal(chain, change_order(sequence=3), outstanding)
    assert "no more requests" in str(refusal)


async def test_an_unreachable_node_leaves_nothing_counted() -> None:
    chain, outstanding = make_chain(), Outstanding()
    chain.is_reachable = False
    with pytest.raises(Exception, match="no node"):
        await admit(chain, change_order(), outstanding)
    assert len(outstanding) == 0


async def test_a_settling_request_is_counted_until_the_chain_shows_it(autojump_clock) -> None:
    chain, outstanding = make_chain(), Outstanding()
    change_session(chain, escrow=900)
    order = change_order()
    await admit(chain, order, outstanding)
    outstanding.end(order.order, is_settling=True)
    assert (await get_refusal(chain, change_order(sequence=1), outstanding)).code == FailureCode.NO_ESCROW
    chain.used.add((SESSION, 0))
    await admit(chain, change_order(sequence=1), outstanding)


async def test_a_failed_request_owes_nothing_but_its_order_does_not_run_again(autojump_clock) -> None:
    chain, outstanding = make_chain(), Outstanding()
    change_session(chain, escrow=500, requests_left=1)
    order = change_order()
    await admit(chain, order, outstanding)
    outstanding.end(order.order, is_settling=False)
    assert "taken" in str(await get_refusal(chain, order, outstanding))
    await admit(chain, change_order(sequence=1), outstanding)


async def test_what_ended_long_ago_is_forgotten(autojump_clock) -> None:
    chain, outstanding = make_chain(), Outstanding()
    change_session(chain, escrow=900)
    order = change_order()
    await admit(chain, order, outstanding)
    outstanding.end(order.order, is_settling=True)
    await trio.sleep(ENDED_S_MAX + 1)
    await admit(chain, change_order(sequence=1), outstanding)
    assert len(outstanding) == 1


async def test_a_running_request_is_never_forgotten(autojump_clock) -> None:
    chain, outstanding = make_chain(), Outstanding()
    await admit(chain, change_order(), outstanding)
    await trio.sleep(10 * ENDED_S_MAX)
    chain.used.add((SESSION, 0))
    assert not await outstanding.forget(SESSION, chain)
    assert "overlaps" in str(await get_refusal(chain, change_order(sequence=1, slice_start=0), outstanding))
    assert len(outstanding) == 1


async def test_the_chain_is_asked_at_once_and_not_in_turn(autojump_clock) -> None:
    """Every answer takes a second: two rounds of questions, one of the session and one of the path."""
    chain = make_chain()

    def slow(ask):
        async def ask_slowly(*args):
            await trio.sleep(1)
            return await ask(*args)

        return ask_slowly

    for name in ("get_session", "is_sequence_used", "get_worker"):
        setattr(chain, name, slow(getattr(chain, name)))
    started_s = trio.current_time()
    await admit(chain, change_order())
    assert trio.current_time() - started_s == pytest.approx(2)


def test_the_order_of_these_tests_is_signed() -> None:
    assert is_order_signed(change_order(), make_chain().sessions[SESSION].session_key)
    assert SESSION_KEY.public_key == make_chain().sessions[SESSION].session_key
