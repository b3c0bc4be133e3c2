"""A worker signs what it has signed before, keeps it first, and opens every position of it whatever happens to it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from inference.serving.finished import FinishedRequest
from inference.serving.opening import CommittedStatement, authenticate_statement_opening
from node.client.batches import make_finished_leaf
from node.worker.openings import OpeningUnavailable
from node.worker.statement_desk import STATEMENTS_A_REQUEST_MAX, WAITING_MAX
from proto_specs.codec import decode, encode
from proto_specs.errors import DecodeError
from proto_specs.types.calls import Outcome, SettleStatement
from proto_specs.types.request import Opening, OpeningRequest
from proto_specs.types.statement import Statement, compute_statement_id, is_statement_signed
from proto_specs.types.statement_wire import StatementProposal, StatementRefusal, StatementRefused
from proto_specs.types.sum_tree import SumNode, locate
from tests.property.inference.serving.harness import SESSION_KEY, make_manifest
from tests.unit.node.worker.stating import STAGES, Stating, propose, propose_leaves
from tests.unit.node.worker.world import SESSION, change_session, change_worker


@pytest.fixture
def world(tmp_path: FilePath) -> Stating:
    return Stating(tmp_path)


async def serve(world: Stating, count: int = 3) -> list[FinishedRequest]:
    return [await world.serve(sequence) for sequence in range(count)]


def expect_refusal(answer: Any, code: StatementRefusal, match: str = "") -> StatementRefused:
    assert isinstance(answer, StatementRefused), answer
    assert (answer.code, match in answer.message) == (code, True), answer.message
    return answer


async def test_all_stages_sign_what_they_served(world: Stating) -> None:
    proposal = propose(await serve(world))
    signed = await world.sign(proposal)
    assert is_statement_signed(signed, SESSION_KEY.public_key)
    assert await world.sign(proposal) == signed, "asked again they say the same"
    world.restart()
    assert await world.sign(proposal) == signed
    assert all(len(one.signed.list_kept()) == 1 for one in world.archives)


async def test_a_worker_that_started_again_signs_by_its_records(world: Stating) -> None:
    finished = await serve(world)
    world.restart()
    await world.sign(propose(finished))


@pytest.mark.parametrize(
    "changes",
    [
        {"tokens": 11},
        {"tokens": 11, "positions": 50},
        {"positions": 50},
        {"tokens_hash": b"h" * 32},
        {"final": False},
        {"slice_end": 1_999},
        {"prompt_tokens": 39},
        {"settled_positions": 1},
        {"boundaries": (bytes(32),) * 4},
        {"boundaries": ()},
        {"request": b"r" * 32},
    ],
)
async def test_a_leaf_that_is_not_what_was_served_is_refused(world: Stating, changes: dict[str, Any]) -> None:
    finished = await serve(world)
    leaves = [make_finished_leaf(one) for one in finished]
    wrong = leaves[1] = replace(leaves[1], **changes)
    for stage in range(STAGES):
        if stage < STAGES - 1 and "tokens_hash" in changes:
            continue  # who holds no voucher takes the client's word for the tokens: the last stage holds one
        answer = await world.ask(stage, propose_leaves(leaves, finished[0]))
        code = StatementRefusal.UNKNOWN_REQUEST if "request" in changes else StatementRefusal.DIFFERS
        assert expect_refusal(answer, code).requests == (wrong.request,)
        assert not world.archives[stage].signed.list_kept(), "nothing is kept of it"


@pytest.mark.parametrize(
    ("changes", "code", "match"),
    [
        ({"genesis": b"g" * 32}, StatementRefusal.NOT_MINE, "another chain"),
        ({"path": ()}, StatementRefusal.NOT_MINE, "not exactly one stage"),
        ({"session": b"s" * 32}, StatementRefusal.NO_SESSION, "settles nothing more"),
        ({"tokens": 37}, StatementRefusal.GARBLED, "tokens of the statement"),
        ({"prompt_tokens": 100}, StatementRefusal.GARBLED, "prompt_tokens"),
        ({"requests": 2}, StatementRefusal.GARBLED, "requests"),
        ({"root": bytes(32)}, StatementRefusal.GARBLED, "root"),
        ({"slices": ()}, StatementRefusal.GARBLED, "slices"),
    ],
)
async def test_a_statement_that_is_not_of_its_leaves_is_refused(
    world: Stating, changes: dict[str, Any], code: StatementRefusal, match: str
) -> None:
    finished = await serve(world)
    proposal = propose_leaves([make_finished_leaf(one) for one in finished], finished[0], **changes)
    expect_refusal(await world.ask(1, proposal), code, match)
    assert not world.archives[1].signed.list_kept()


async def test_only_the_client_proposes(world: Stating) -> None:
    proposal = replace(propose(await serve(world)), client_signature=bytes(64))
    expect_refusal(await world.ask(0, proposal), StatementRefusal.GARBLED, "session key")


async def test_a_session_that_is_over_is_refused(world: Stating) -> None:
    proposal = propose(await serve(world))
    change_session(world.ledger.view, is_settleable=False)
    expect_refusal(await world.ask(0, proposal), StatementRefusal.NO_SESSION)


async def test_what_the_chain_shows_settled_is_refused_and_named(world: Stating) -> None:
    finished = await serve(world)
    world.ledger.view.used.add((SESSION, 1))
    answer = expect_refusal(await world.ask(2, propose(finished)), StatementRefusal.SETTLED)
    assert answer.requests == (finished[1].request,)
    await world.sign(propose([finished[0], finished[2]]))


async def test_more_than_the_bond_bears_is_refused(world: Stating) -> None:
    finished = await serve(world)
    change_worker(world.ledger.view, 1, gross_max=300)
    expect_refusal(await world.ask(1, propose(finished)), StatementRefusal.TOO_DEAR, "300 nmyl at once")


async def test_a_request_is_in_a_few_signed_statements_at_most(world: Stating) -> None:
    finished = await serve(world, STATEMENTS_A_REQUEST_MAX + 2)
    for other in finished[1:-1]:
        await world.sign(propose([finished[0], other]))
    answer = await world.ask(0, propose([finished[0], finished[-1]]))
    assert expect_refusal(answer, StatementRefusal.SIGNED_BEFORE).requests == (finished[0].request,)
    await world.sign(propose(finished[-1:]))


async def test_a_node_that_is_away_and_a_full_disk_sign_nothing(world: Stating, monkeypatch) -> None:
    proposal = propose(await serve(world))
    world.ledger.view.is_reachable = False
    expect_refusal(await world.ask(0, proposal), StatementRefusal.BUSY, "does not answer")
    world.ledger.view.is_reachable = True

    def fail(_kept: Any) -> None:
        raise OSError("full")

    monkeypatch.setattr(world.archives[0].signed, "save", fail)
    expect_refusal(await world.ask(0, proposal), StatementRefusal.BUSY, "disk")


async def test_garbage_is_a_decode_error(world: Stating) -> None:
    for body in (b"", b"garbage", encode(propose(await serve(world, 1)))[:-1]):
        with pytest.raises(DecodeError):
            await world.desks[0].answer(body, "peer")


async def test_few_wait_for_their_turn(world: Stating) -> None:
    proposal = propose(await serve(world, 1))
    answers: list[Any] = []

    async def ask() -> None:
        answers.append(await world.ask(0, proposal))

    async with trio.open_nursery() as nursery:
        for _ in range(WAITING_MAX + 5):
            nursery.start_soon(ask)
    refused = [one for one in answers if isinstance(one, StatementRefused)]
    assert {one.code for one in refused} <= {StatementRefusal.BUSY}
    assert len(answers) - len(refused) >= WAITING_MAX


def commit(statement: Statement, model: bytes) -> CommittedStatement:
    stages = tuple((one.worker, one.start, one.end) for one in statement.path)
    root = SumNode(statement.root, statement.prompt_tokens, statement.tokens)
    return CommittedStatement(statement.genesis, statement.session, model, stages, statement.requests, root)


async def open_point(world: Stating, stage: int, statement: Statement, point: int) -> Opening:
    made = compute_statement_id(statement)
    world.ledger.requests[made] = SimpleNamespace(open_stages=3, windows=0)
    world.ledger.challenge = SimpleNamespace(window=0, point=point, outcome=None)
    asked = OpeningRequest(made, stage, 0, point)
    return decode(Opening, await world.archives[stage].open(encode(asked)))


async def test_every_position_is_opened_after_a_restart(world: Stating) -> None:
    statement = propose(await serve(world)).statement
    finished = [await world.serve(9, tokens=30)]
    await world.sign(propose(finished))
    proposal: StatementProposal = propose([*[await world.serve(one) for one in (4, 5)], *finished])
    await world.sign(proposal)
    statement = proposal.statement
    world.restart()
    seen = set()
    for stage in range(STAGES):
        for point in range(0, statement.prompt_tokens + statement.tokens, 3):
            opening = await open_point(world, stage, statement, point)
            committed = commit(statement, opening.order.order.model)
            args = (committed, stage, point, SESSION_KEY.public_key, make_manifest())
            found = authenticate_statement_opening(opening, *args)
            assert opening.place is not None
            position = locate(opening.place, len(proposal.leaves), committed.root, point)
            assert position is not None
            assert found.window_start <= position < found.window_start + 32
            seen.add((stage, found.order.sequence, found.window_start))
    assert len({one[1] for one in seen}) == 3
    assert len(seen) == STAGES * 7


async def test_only_the_drawn_point_is_opened(world: Stating) -> None:
    proposal = propose(await serve(world))
    await world.sign(proposal)
    made = compute_statement_id(proposal.statement)
    world.ledger.requests[made] = SimpleNamespace(open_stages=3, windows=0)
    asked = encode(OpeningRequest(made, 1, 0, 60))
    for challenge in (
        None,
        SimpleNamespace(window=0, point=61, outcome=None),
        SimpleNamespace(window=0, point=60, outcome=Outcome.PASS),
        SimpleNamespace(window=0, point=None, outcome=None),
    ):
        world.ledger.challenge = challenge
        with pytest.raises(OpeningUnavailable):
            await world.archives[1].open(asked)
    world.ledger.challenge = SimpleNamespace(window=0, point=10**9, outcome=None)
    with pytest.raises(OpeningUnavailable, match="no point"):
        await world.archives[1].open(encode(OpeningRequest(made, 1, 0, 10**9)))


async def test_records_stay_until_their_statement_is_resolved(world: Stating) -> None:
    finished = await serve(world)
    signed = await world.sign(propose(finished))
    made = compute_statement_id(signed.statement)
    await world.accounts[0].execute(SettleStatement(signed))
    await world.turn()
    assert not len(world.archives[-1].held), "the chain shows what was held settled"
    assert all(len(one.openings.list_kept()) == len(finished) for one in world.archives)
    assert [await one.count_undecided() for one in world.archives] == [len(finished)] * STAGES, "they may be drawn"
    world.ledger.requests[made] = SimpleNamespace(open_stages=0, windows=0)
    await world.turn()
    assert not any(one.openings.list_kept() or one.signed.list_kept() for one in world.archives)
