"""The local socket: for its owner alone, answers with the caller's id, heads as they come, laggards cut off."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from node.chain import bus as bus_module
from node.chain.admission import TransactionAdmission
from node.chain.bus import BlockBus
from node.local_api import server as server_module
from node.local_api.methods.all import NodeView
from node.local_api.server import receive_frame, serve_api
from node.local_api.wire.frames import CALLS_MAX, FRAME_BYTES_MAX, HEAD, SUBSCRIBE_HEADS
from node.signatures.processes import SignatureProcesses
from proto_specs.codec import encode
from proto_specs.types.chain import compute_extrinsic_hash
from tests.unit.node.world import World


@dataclass
class Peer:
    """The other end."""

    stream: trio.SocketStream
    buffer: bytearray

    async def send(self, payload: bytes) -> None:
        await self.stream.send_all(HEAD.pack(len(payload)) + payload)

    async def receive(self) -> Any:
        with trio.fail_after(5):
            payload = await receive_frame(self.stream, self.buffer)
        return None if payload is None else json.loads(payload)

    async def call(self, call_id: Any, method: Any, params: Any = ()) -> Any:
        """The answer to a frame of one call."""
        await self.send(json.dumps({"id": call_id, "calls": [[method, params]]}).encode())
        frame = await self.receive()
        assert frame["id"] == call_id
        (answer,) = frame["answers"]
        return answer

    async def call_many(self, calls: list[list[Any]]) -> list[Any]:
        """The answers to a frame."""
        await self.send(json.dumps({"id": 1, "calls": calls}).encode())
        answers: list[Any] = (await self.receive())["answers"]
        return answers


@asynccontextmanager
async def serve(world: World, path: Path, bus: BlockBus) -> AsyncIterator[None]:
    view = NodeView(world.genesis.spec, world.store, world.pool, lambda: 0)
    signatures = SignatureProcesses(1)
    admission = TransactionAdmission(world.pool, signatures)
    async with trio.open_nursery() as nursery:
        await nursery.start(signatures.run)
        nursery.start_soon(admission.run)
        await nursery.start(serve_api, path, view, bus, admission)
        yield
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connect(path: Path) -> AsyncIterator[Peer]:
    async with await trio.open_unix_socket(str(path)) as stream:
        yield Peer(stream, bytearray())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "node.sock"


async def test_it_is_its_owners_and_goes_with_the_node(world: World, path: Path) -> None:
    path.write_text("left by a crash")
    async with serve(world, path, BlockBus()):
        assert path.stat().st_mode & 0o777 == 0o600
    assert not path.exists()


async def test_answers_repeat_the_id_of_their_call(world: World, path: Path) -> None:
    async with serve(world, path, BlockBus()), connect(path) as peer:
        assert await peer.call(7, "system_name") == {"result": "myelin"}
        assert (await peer.call(8, "chain_getBlock", [3])) == {"result": None}
        assert (await peer.call(9, "nonsense"))["error"]["code"] == -32601
        for wrong in ("text", 1, None):
            answer = await peer.call(10, "system_name", wrong)
            assert answer["error"]["code"] == -32602
        answer = await peer.call(11, "inference_workers", ["0x00"])
        assert answer["error"]["code"] == -32602
        assert (await peer.call(12, ["x"]))["error"]["code"] == -32601


async def test_the_answers_of_a_frame_are_in_the_order_of_its_calls(world: World, path: Path) -> None:
    """Whatever a call waits for: nothing, a thread, or the pool; and one that fails fails alone."""
    transactions = [world.transfer(nonce) for nonce in range(30)]
    submissions = [["author_submitExtrinsic", [f"0x{encode(one).hex()}"]] for one in transactions]
    calls = [["system_name", []], *submissions, ["chain_getBlock", [0]], submissions[3], ["nonsense", []], 7]
    async with serve(world, path, BlockBus()), connect(path) as peer:
        answers = await peer.call_many(calls)
        assert answers[0] == {"result": "myelin"}
        expected = [{"result": f"0x{compute_extrinsic_hash(one).hex()}"} for one in transactions]
        assert answers[1:31] == expected
        assert answers[31] == {"result": None}
        assert answers[32] == expected[3], "the same again is as good as the first"
        assert [one["error"]["code"] for one in answers[33:]] == [-32601, -32600]
        assert len(world.pool) == 30
        too_many = {"id": 2, "calls": [["system_name", []]] * (CALLS_MAX + 1)}
        await peer.send(json.dumps(too_many).encode())
        assert (await peer.receive())["error"]["code"] == -32600


@pytest.mark.parametrize("payload", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000, b'{"id": 1}', b"1"])
async def test_garbage_in_a_frame_is_answered_and_the_connection_goes_on(
    world: World, path: Path, payload: bytes
) -> None:
    async with serve(world, path, BlockBus()), connect(path) as peer:
        await peer.send(payload)
        assert (await peer.receive())["error"]["code"] == -32600
        assert (await peer.call(1, "system_name"))["result"] == "myelin"


async def test_a_frame_too_large_ends_its_connection_alone(world: World, path: Path) -> None:
    async with serve(world, path, BlockBus()), connect(path) as other:
        async with connect(path) as peer:
            await peer.stream.send_all(HEAD.pack(FRAME_BYTES_MAX + 1))
            assert await peer.receive() is None
        assert (await other.call(1, "system_name"))["result"] == "myelin"


async def test_a_fault_inside_is_an_error_not_the_end(
    world: World, path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    async with serve(world, path, BlockBus()), connect(path) as peer:
        monkeypatch.setattr(server_module, "call_method", fail)
        for name in ("system_name", "chain_getBlock"):
            answer = await peer.call(1, name)
            assert answer["error"]["code"] == -32603
            assert "secret" not in json.dumps(answer)
    assert "secret" in caplog.text


async def test_heads_are_sent_as_they_come(world: World, path: Path) -> None:
    bus = BlockBus()
    async with serve(world, path, bus), connect(path) as peer:
        assert (await peer.call(0, SUBSCRIBE_HEADS))["result"] is True
        await trio.testing.wait_all_tasks_blocked()
        transaction = world.transfer(0)
        bus.publish(world.add_block([transaction]))
        head = (await peer.receive())["head"]
        assert head["height"] == 1
        assert len(head["extrinsics"]) == 1
        assert head["hash"] == f"0x{world.head.block_hash.hex()}"


async def test_who_reads_no_heads_is_disconnected(world: World, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "BACKLOG_MAX", 2)
    bus = BlockBus()
    done = world.add_block([world.transfer(nonce) for nonce in range(300)])
    async with serve(world, path, bus), connect(path) as peer:
        await peer.call(0, SUBSCRIBE_HEADS)
        await trio.testing.wait_all_tasks_blocked()
        while bus._subscribers:  # noqa: SLF001
            bus.publish(done)
            await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(5):
            while await peer.receive() is not None:
                pass
