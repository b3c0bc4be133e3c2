"""Requests, sessions, models and workers as the chain's own state has them: numbers from the runtime, then as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consensus.runtime.executive import execute_block
from consensus.runtime.receipts import BlockEvents, Receipt
from node.cli import show_records
from node.cli.connect import Connection
from node.cli.read_request import collect_request, collect_session, collect_stated, list_open_sessions
from node.client.rpc_chain import RpcChain
from node.client.statement_files import FiledStatement, StatementFiles, find_stated
from proto_specs.jsonform import to_json
from proto_specs.ss58 import encode_address
from proto_specs.types.calls import CloseSession, Outcome, Remark, TopUpSession
from proto_specs.types.request import compute_request_id
from tests.unit.consensus.runtime import chain as chain_module
from tests.unit.consensus.runtime.inference.inference_world import (
    DEPOSIT,
    REQUEST_PRICE,
    SLICE,
    THRESHOLD_PPB,
    World,
)
from tests.unit.consensus.runtime.inference.statement_world import (
    get_id,
    make_leaves,
    sign_statement,
    state_leaves,
)

PREFIX = 42


class Node:
    """The RPC methods that are needed, over a chain in memory."""

    def __init__(self, world: World, blocks: list[Any]) -> None:
        self._chain = world.chain
        self._blocks = blocks

    async def call(self, method: str, *params: Any) -> Any:
        """An answer."""
        match method, params:
            case "chain_getHeader", ():
                return {"height": self._chain.height}
            case "chain_getReceipts", (height,):
                return self._blocks[height - 1]
            case "state_getStorage", (key,):
                found = self._chain.state.get(bytes.fromhex(key[2:]))
                return None if found is None else f"0x{found.hex()}"
            case "state_getPairs", (prefix, start):
                pairs = self._chain.state.iterate(bytes.fromhex(prefix[2:]))
                shown = [[f"0x{key.hex()}", f"0x{value.hex()}"] for key, value in pairs]
                return [one for one in shown if start is None or one[0] > start]
        raise AssertionError(method)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What chain_getReceipts says of every block that is executed from now on; chains never execute one twice."""
    found: list[Any] = []

    def show(events: BlockEvents, receipts: tuple[Receipt, ...]) -> dict[str, Any]:
        return {"receipts": [to_json(one, PREFIX) for one in receipts], "events": to_json(events, PREFIX)}

    def execute(*arguments: Any) -> Any:
        executed = execute_block(*arguments)
        found.append(show(executed.events, executed.receipts))
        return executed

    monkeypatch.setattr(chain_module, "execute_block", execute)
    return found


@pytest.fixture
def world(blocks: list[Any]) -> World:
    return World(("alice", "eve"), committee_size=2, fails_min=1)


@pytest.fixture
def node(world: World, blocks: list[Any]) -> Connection:
    names = {encode_address(one.account, PREFIX): one.name for one in (*world.workers, world.client)}
    return Connection(RpcChain(Node(world, blocks), world.chain.genesis.hash), PREFIX, names)


def settle(world: World, sequence: int = 0) -> tuple[bytes, list[bytes]]:
    """(request, challenges) of a request whose stages are all drawn."""
    call = world.settle(sequence)
    drawn = world.settle_and_draw(call)
    return compute_request_id(call.order.order), [one.challenge for one in drawn]


def reveal(world: World, challenge: bytes, outcome: int, verifiers: int = 2) -> None:
    """Commitments of the whole committee, then reveals of the first of it."""
    halves = [world.verdict(challenge, one, outcome) for one in world.verifiers]
    for verifier, (commit, _) in zip(world.verifiers, halves, strict=True):
        world.chain.expect_ok(verifier, commit)
    for verifier, (_, opening) in list(zip(world.verifiers, halves, strict=True))[:verifiers]:
        world.chain.expect_ok(verifier, opening)


async def test_what_is_not_there(node: Connection) -> None:
    assert await collect_request(node, bytes(32)) is None
    assert await collect_session(node, bytes(32)) is None


async def test_a_resolved_request_with_a_cheat_in_it(
    world: World, node: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    request, challenges = settle(world)
    other, _ = settle(world, sequence=1)
    world.chain.block([world.chain.sign(world.client, Remark(b"no part of the request"), tip=5)])
    for challenge, outcome in zip(challenges, (Outcome.PASS, Outcome.FAIL, Outcome.PASS), strict=True):
        reveal(world, challenge, outcome)
    found = await collect_request(node, request)
    assert found is not None
    assert found["status"] == "resolved"
    assert [one["status"] for one in found["stages"]] == ["paid", "slashed", "paid"]
    assert [one["challenge"]["outcome"] for one in found["stages"]] == ["pass", "fail", "pass"]
    assert [one["challenge"]["distance_ppb"] for one in found["stages"]] == [1_000, 900_000_000, 1_000]
    assert {one["challenge"]["threshold_ppb"] for one in found["stages"]} == {THRESHOLD_PPB}
    assert all(len(one["challenge"]["reveals"]) == 2 for one in found["stages"])
    stages = [one for one in found["payments"] if one["for"].startswith("stage ") and one["as"] == "worker"]
    gross = [one["gross"] for one in found["stages"]]
    assert 0 < sum(one["amount"] for one in stages) < gross[0] + gross[2]
    assert found["returned"] >= gross[1]
    assert len(found["slashes"]) == 1
    assert {one["for"] for one in found["payments"] if one["amount"] and one["as"] == "block producer"} <= {
        f"verifying stage {number}" for number in range(3)
    }, "tips of the blocks in between are nobody's pay for this request"
    settlements = [one for one in found["payments"] if "RequestSettled" in one["for"]]
    assert [one["height"] for one in settlements] == [found["settled_height"]], "the other request's is not ours"
    show_records.show_request(node, found)
    text = capsys.readouterr().out
    for wanted in (
        "slashed",
        "9.0e-01",
        "1.0e-06",
        "3.0e-05",
        "tiny",
        "(charlie)",
        "who got what",
        f"0x{request.hex()}",
    ):
        assert wanted in text
    assert other.hex() not in text


async def test_an_open_request_says_what_it_waits_for(
    world: World, node: Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    request, challenges = settle(world)
    reveal(world, challenges[0], Outcome.PASS, verifiers=1)
    found = await collect_request(node, request)
    assert found is not None
    assert found["status"] == "open"
    assert [one["status"] for one in found["stages"]] == ["challenged"] * 3
    show_records.show_request(node, found)
    text = capsys.readouterr().out
    assert text.count("not revealed") == 5
    assert f"open until block {found['stages'][0]['challenge']['reveal_deadline']}" in text


async def test_a_request_that_settled_with_others_is_shown_with_them(
    world: World, node: Connection, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    leaves = make_leaves(world, range(3))
    call = sign_statement(world, state_leaves(world, leaves))
    files = StatementFiles(tmp_path / "somebody-statements")
    files.keep(FiledStatement(call.statement, tuple(leaves)))
    assert find_stated(tmp_path, bytes(32)) is None
    stated = find_stated(tmp_path, leaves[1].request)
    assert stated is not None
    assert await collect_stated(node, stated) is None
    world.chain.expect_ok(world.workers[0], call)
    found = await collect_stated(node, stated)
    assert found is not None
    assert (found["requests"], found["request"]) == (3, f"0x{get_id(call).hex()}")
    assert found["part"]["price"] == REQUEST_PRICE
    assert found["price"] == 3 * REQUEST_PRICE
    show_records.show_request(node, found)
    text = capsys.readouterr().out
    for wanted in ("statement", f"request 0x{leaves[1].request.hex()}, sequence 1", "3 requests at once"):
        assert wanted in text


async def test_a_request_before_its_draw(world: World, node: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    call = world.settle()
    world.chain.expect_ok(world.workers[0], call)
    found = await collect_request(node, compute_request_id(call.order.order))
    assert found is not None
    show_records.show_request(node, found)
    assert capsys.readouterr().out.count("not drawn yet") == 3


async def test_a_session(world: World, node: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    requests = [settle(world, sequence)[0] for sequence in (0, 1)]
    found = await collect_session(node, world.session)
    assert found is not None
    assert found["status"] == "open"
    assert [one["request"] for one in found["requests"]] == [f"0x{one.hex()}" for one in requests]
    assert 0 < found["escrow"] < found["deposit"]
    show_records.show_session(node, found)
    text = capsys.readouterr().out
    assert "2 of 100 settled" in text
    assert f"open, until block {found['close_height']}" in text
    assert requests[1].hex() in text
    assert "(client)" in text


async def test_models_and_workers(world: World, node: Connection, capsys: pytest.CaptureFixture[str]) -> None:
    assert await node.chain.read(show_records.list_model_names) == [(world.model, "tiny")]
    models = await node.chain.read(show_records.read_models, PREFIX)
    assert [(one["name"], one["layers_covered"], one["active_workers"]) for one in models] == [("tiny", 6, 3)]
    show_records.show_models(node, models)
    assert "6/6" in capsys.readouterr().out
    workers = await node.chain.read(show_records.read_workers, world.model, PREFIX)
    assert [(one["start"], one["end"], one["status"]) for one in workers] == [
        (0, 2, "active"),
        (2, 4, "active"),
        (4, 6, "active"),
    ]
    show_records.show_workers(node, workers)
    text = capsys.readouterr().out
    assert [line.split()[1] for line in text.splitlines()] == ["layers", "0-1", "2-3", "4-5"]
    assert "(dave)" in text
    show_records.show_workers(node, [])
    show_records.show_models(node, [])
    assert "worker run" in capsys.readouterr().out


async def test_open_sessions_are_listed_with_what_is_left(
    node: Connection, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(world)
    second = world.open_session(deposit=5 * SLICE)
    closed = world.open_session(deposit=7 * SLICE)
    world.chain.expect_ok(world.client, CloseSession(closed))
    found = await list_open_sessions(node, world.client.account)
    left = {one["session"]: one["escrow"] for one in found["sessions"]}
    assert left == {f"0x{world.session.hex()}": DEPOSIT - REQUEST_PRICE, f"0x{second.hex()}": 5 * SLICE}
    show_records.show_open_sessions(found)
    printed = capsys.readouterr().out
    assert all(one in printed for one in (*left, "1 of 100", "0 of 100"))
    assert f"0x{closed.hex()}" not in printed
    assert await list_open_sessions(node, world.workers[0].account) == {"sessions": []}


async def test_a_session_says_what_can_be_promised(
    node: Connection, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    settle(world)
    world.chain.expect_ok(world.client, TopUpSession(world.session, 7))
    found = await collect_session(node, world.session)
    assert found is not None
    released = SLICE - REQUEST_PRICE
    assert (found["deposit"], found["released"]) == (DEPOSIT + 7, released)
    assert found["promisable"] == DEPOSIT + 7 + released
    show_records.show_session(node, found)
    printed = capsys.readouterr().out
    assert f"positions 0 to {found['promisable']} nmyl" in printed
