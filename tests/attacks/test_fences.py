"""A client wants its continuations taken for ever, or those of others refused: what the fences of a worker remember."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.worker.fence import ANSWERS_MAX, REPLAYS_MAX, Fence
from node.worker.refusal import OrderRefused
from proto_specs.types.request import (
    Continuation,
    Order,
)
from proto_specs.types.wire import OpenRequest
from tests.attacks.test_free_continuations import (  # noqa: F401
    EVE,
    change_settled,
    change_voucher,
    fixture_honest,
    get_refusal,
    reorder,
    restate,
)
from tests.property.inference.serving.recovery import answer


def test_one_settlement_is_ridden_a_few_times_and_not_for_ever(honest: OpenRequest) -> None:
    """Each order would have its paid prefix computed again, and leave before anything else is paid."""
    fence = Fence()
    taken = [get_refusal(restate(honest, epoch=epoch), fence) is None for epoch in range(1, 20)]
    assert taken == [True] * REPLAYS_MAX + [False] * (19 - REPLAYS_MAX)


def test_an_epoch_that_is_past_is_refused_although_its_request_is_over(honest: OpenRequest) -> None:
    fence = Fence()
    assert get_refusal(restate(honest, epoch=2), fence) is None
    for epoch in (1, 2):
        refusal = get_refusal(restate(honest, epoch=epoch), fence)
        assert refusal is not None
        assert "epoch 2" in str(refusal)
    assert get_refusal(restate(honest, epoch=3), fence) is None


def test_what_a_fence_refuses_counts_nothing(honest: OpenRequest) -> None:
    fence = Fence()
    for _ in range(10):
        assert get_refusal(change_settled(honest, change_voucher(EVE)), fence) is not None
    assert get_refusal(honest, fence) is None


@pytest.fixture(scope="module", name="plain")
def fixture_plain() -> Order:
    return answer(1, 1, 1, 0, [], is_noisy=False).attempts[0].client.order.order


def go_on(order: Order, number: int, epoch: int) -> Order:
    """An order that bills everything, and goes on from request number `number`."""
    return replace(order, continuation=Continuation(number.to_bytes(32, "big"), epoch, 1, 0))


def test_the_memory_of_fences_is_bounded(plain: Order) -> None:
    fence = Fence()
    for number in range(ANSWERS_MAX + 100):
        fence.pass_order(go_on(plain, number, 1))
    assert len(fence._epochs) == ANSWERS_MAX  # noqa: SLF001
    fence.pass_order(plain)


def test_orders_that_cost_nothing_do_not_make_a_fence_forget(plain: Order, honest: OpenRequest) -> None:
    """The attack: a paid prefix is ridden four times, 4,096 orders that no worker can open follow, and again."""
    fence = Fence()
    for epoch in range(1, REPLAYS_MAX + 1):
        assert get_refusal(restate(honest, epoch=epoch), fence) is None
    for number in range(ANSWERS_MAX + 1):
        fence.pass_order(go_on(plain, number, 1))
    assert get_refusal(restate(honest, epoch=9), fence) is not None


def test_nobody_fences_the_answer_of_another_session(plain: Order) -> None:
    """The attack: a worker of the path, or whoever reads the chain, names the request in an order of its own."""
    fence = Fence()
    fence.pass_order(replace(go_on(plain, 7, 255), session=b"e" * 32))
    fence.pass_order(go_on(plain, 7, 1))
    with pytest.raises(OrderRefused, match="epoch 1 "):
        fence.pass_order(go_on(plain, 7, 1))


def test_orders_that_bill_everything_may_go_on_as_often_as_stages_are_lost(plain: Order) -> None:
    fence = Fence()
    for epoch in range(1, 256):
        fence.pass_order(go_on(plain, 7, epoch))
    with pytest.raises(OrderRefused):
        fence.pass_order(go_on(plain, 7, 255))


# A settlement that nobody can submit ---------------------------------------------------------------------------------
