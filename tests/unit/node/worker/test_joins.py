"""A stage brings the chain its part when nobody settles, or for less; and tells on a client that promised twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import StageStatus
from node.client.errors import CallFailed
from node.worker import joins
from node.worker.double_watch import find_promises
from node.worker.joins import CLOSING_BLOCKS, SETTLED_BY_OTHERS_S, Joins
from proto_specs.jsonform import to_json
from proto_specs.types import calls
from proto_specs.types.promise_calls import JoinSettlement, PromisedByOrder, PromisedByStatement, ReportDoublePromise
from proto_specs.types.request import SignedOrder, Voucher, compute_request_id, sign_order, sign_voucher
from proto_specs.types.statement import SignedStatement, Span, Statement, sign_statement_as_client
from tests.property.inference.serving.harness import SESSION_KEY, Path, make_order

PROMPT = tuple(range(100, 140))


@dataclass
class Node:
    """A chain and an account, as far as parts need them."""

    request: Any = None
    until: int | None = None
    is_used: bool = False
    session: Any = field(default_factory=lambda: SimpleNamespace(is_open=True, is_settleable=True, height=9))
    settled: list[tuple[int, bytes]] = field(default_factory=list)
    blocks: dict[int, Any] = field(default_factory=dict)
    sent: list[Any] = field(default_factory=list)
    failure: CallFailed | None = None

    @property
    def chain(self) -> Node:
        return self

    @property
    def rpc(self) -> Node:
        return self

    async def get_request(self, request: bytes) -> Any:
        if self.settled and request in {two: one for one, two in self.settled}:
            return SimpleNamespace(settled_height={two: one for one, two in self.settled}[request])
        return self.request

    async def get_session(self, session: bytes) -> Any:
        return self.session

    async def is_sequence_used(self, session: bytes, sequence: int) -> bool:
        return self.is_used

    async def read(self, query: Callable[..., Any], *_args: Any) -> Any:
        return self.until if query is queries.read_join_end else self.settled

    async def call(self, method: str, height: int) -> Any:
        assert method == "chain_getBlock"
        return self.blocks[height]

    async def send(self, call: Any) -> bytes:
        self.sent.append(call)
        return b"x" * 32

    async def find(self, extrinsic: bytes, name: str) -> None:
        if self.failure is not None:
            raise self.failure


@pytest.fixture(name="part", scope="module")
def fixture_part() -> JoinSettlement:
    """What the first stage has of an answer of 100 tokens."""
    path = Path(make_order(PROMPT, 100, 3), PROMPT, None, 1)
    path.run()
    part = path.stages[0].get_part()
    assert part is not None
    return part


def make_joins(node: Node, *, is_stated: bool = False) -> Joins:
    signed = SimpleNamespace(
        list_of=lambda _request: [None] * is_stated, is_landing=lambda _request, height: is_stated and height < 15
    )
    return Joins(node, signed)  # type: ignore[arg-type]


def show(part: JoinSettlement, status: StageStatus, gross: int, tokens: int = 0) -> Any:
    positions = 0 if status == StageStatus.MISSING else part.stage_roots[0].roots.positions
    stage = SimpleNamespace(status=status, gross=gross, positions=positions)
    return SimpleNamespace(tokens=tokens, stages=[stage] * 3)


async def test_others_have_their_time_and_then_the_stage_settles_alone(
    part: JoinSettlement, autojump_clock: Any
) -> None:
    node = Node()
    parts = make_joins(node)
    parts.keep(part, SETTLED_BY_OTHERS_S)
    await parts.run_once()
    assert node.sent == []
    autojump_clock.jump(SETTLED_BY_OTHERS_S + 1)
    await parts.run_once()
    await parts.run_once()
    assert node.sent == [part], "once"
    node.request = show(part, StageStatus.AWAITING_DRAW, 1 << 40)
    node.until = 9
    await parts.run_once()
    assert len(parts) == 1, "a better voucher may still come"
    node.until = None
    await parts.run_once()
    assert len(parts) == 0


async def test_it_waits_no_longer_than_the_session_lasts(part: JoinSettlement) -> None:
    node = Node(session=SimpleNamespace(is_open=False, is_settleable=True, expiry_height=20, height=13))
    parts = make_joins(node)
    parts.keep(part, 1_000.0)
    await parts.run_once()
    assert node.sent == []
    node.session.height = 20 - CLOSING_BLOCKS
    await parts.run_once()
    assert node.sent == [part]


async def test_a_statement_on_its_way_is_waited_for(part: JoinSettlement) -> None:
    """A stage that settled alone meanwhile would use the number that the statement settles."""
    session = SimpleNamespace(is_open=False, is_settleable=True, expiry_height=16, height=12)
    node = Node(session=session)
    parts = make_joins(node, is_stated=True)
    parts.keep(part, 0.0)
    await parts.run_once()
    assert node.sent == []
    session.height = 13
    await parts.run_once()
    assert node.sent == [part], "but for the last blocks of its session"
    node = Node()
    parts = make_joins(node, is_stated=True)
    parts.keep(part, 0.0)
    await parts.run_once()
    node.session.height = 15
    assert node.sent == []
    await parts.run_once()
    assert node.sent == [part]


@pytest.mark.parametrize("status", [StageStatus.MISSING, StageStatus.AWAITING_DRAW])
async def test_what_others_settle_for_less_is_joined_at_once(part: JoinSettlement, status: StageStatus) -> None:
    node = Node(request=show(part, status, 1), until=9)
    parts = make_joins(node)
    parts.keep(part, 1_000.0)
    await parts.run_once()
    assert node.sent == [part]


async def test_nothing_is_joined_that_is_settled_as_well_or_is_final(part: JoinSettlement) -> None:
    for found, until in (
        (show(part, StageStatus.AWAITING_DRAW, 1 << 40), 9),
        (show(part, StageStatus.MISSING, 0), None),
        (show(part, StageStatus.REFUNDED, 0), 9),
    ):
        node = Node(request=found, until=until)
        parts = make_joins(node)
        parts.keep(part, 0.0)
        await parts.run_once()
        assert node.sent == []


async def test_a_statement_of_one_s_own_ends_it_without_a_search(part: JoinSettlement) -> None:
    node = Node(is_used=True)
    parts = make_joins(node, is_stated=True)
    parts.keep(part, 0.0)
    await parts.run_once()
    assert (node.sent, len(parts)) == ([], 0)


def make_double(part: JoinSettlement) -> SignedOrder:
    """Another order that promises the first nmyl of the slice again."""
    order = replace(part.order.order, sequence=7, slice_end=part.order.order.slice_start + 1)
    return sign_order(order, SESSION_KEY)


async def test_a_number_used_by_another_order_is_reported(part: JoinSettlement) -> None:
    double = make_double(part)
    request = compute_request_id(double.order)
    voucher = sign_voucher(Voucher(request, 0, bytes(32), False), SESSION_KEY)
    batch = calls.BatchAll((calls.Remark(b""), calls.Settle(double, voucher, ())))
    node = Node(is_used=True, settled=[(5, request)], blocks={5: {"block": {"body": [to_json(batch, 42)]}}})
    parts = make_joins(node)
    parts.keep(part, 0.0)
    await parts.run_once()
    assert node.sent == [ReportDoublePromise(part.order, part.voucher, PromisedByOrder(double))]
    assert len(parts) == 0


async def test_an_escrow_that_went_elsewhere_is_looked_into(
    part: JoinSettlement, monkeypatch: pytest.MonkeyPatch, autojump_clock: Any
) -> None:
    asked = []

    async def report(_account: Any, order: SignedOrder, _voucher: Any) -> bool:
        asked.append(order)
        return True

    monkeypatch.setattr(joins, "report_double", report)
    node = Node(failure=CallFailed("JoinSettlement", "INFERENCE", "EscrowTooLow"))
    parts = make_joins(node)
    parts.keep(part, 0.0)
    await parts.run_once()
    await parts.run_once()
    assert asked == [part.order]


def test_a_statement_over_another_path_contradicts_an_order(part: JoinSettlement) -> None:
    order = part.order.order
    path = (replace(order.path[0], prefill_price=order.path[0].prefill_price + 1), *order.path[1:])
    spans = (Span(0, 3),), (Span(0, 10),)
    statement = Statement(order.genesis, order.session, path, 3, 40, 60, 99, *spans, b"r" * 32)
    signature = sign_statement_as_client(statement, SESSION_KEY)
    signed = SignedStatement(statement, signature, (bytes(64),) * 3)
    shown = {"body": [to_json(calls.SettleStatement(signed), 42), {"type": "Settle", "order": "garbage"}]}
    assert list(find_promises(shown, part.order)) == [PromisedByStatement(statement, signature, None)]
    own = replace(statement, path=order.path)
    honest = to_json(calls.SettleStatement(replace(signed, statement=own)), 42)
    assert list(find_promises(honest, part.order)) == []
