"""RPC of a real node: subscriptions over WebSocket, submission and watching, both transports on one port, limits."""

from __future__ import annotations

import itertools
import json
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from consensus.runtime.balances.state import accounts
from node.web.rpc.session import SUBSCRIPTIONS_PER_SOCKET_MAX
from proto_specs.codec import encode
from proto_specs.types.calls import Remark
from proto_specs.types.chain import compute_extrinsic_hash
from tests.integration.node.processes import NodeDirectory
from tests.unit.node.world import BOB, sign_call

pytestmark = pytest.mark.slow


class Socket:
    """Calls and notifications over one WebSocket."""

    def __init__(self, raw: ClientConnection) -> None:
        self._raw = raw
        self._id = 0
        self.notifications: list[dict[str, Any]] = []

    def call(self, method: str, *params: Any) -> Any:
        self._id += 1
        self._raw.send(json.dumps({"jsonrpc": "2.0", "id": self._id, "method": method, "params": params}))
        while (message := self._receive()).get("id") != self._id:
            self.notifications.append(message)
        return message.get("result", message.get("error"))

    def wait(self) -> dict[str, Any]:
        return self.notifications.pop(0) if self.notifications else self._receive()

    def _receive(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._raw.recv(timeout=20))
        return found


def open_socket(node: NodeDirectory) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{node.port}/")


@pytest.mark.parametrize(
    ("subscribe", "method", "unsubscribe"),
    [
        ("chain_subscribeNewHeads", "chain_newHead", "chain_unsubscribeNewHeads"),
        ("chain_subscribeFinalizedHeads", "chain_finalizedHead", "chain_unsubscribeFinalizedHeads"),
    ],
)
def test_heads_come_in_order_without_a_gap(
    shared_node: NodeDirectory, subscribe: str, method: str, unsubscribe: str
) -> None:
    with open_socket(shared_node) as raw:
        socket = Socket(raw)
        subscription = socket.call(subscribe)
        heads = [socket.wait() for _ in range(4)]
        assert {one["method"] for one in heads} == {method}
        assert {one["params"]["subscription"] for one in heads} == {subscription}
        heights = [one["params"]["result"]["height"] for one in heads]
        assert heights == list(range(heights[0], heights[0] + 4))
        for before, after in itertools.pairwise(heads):
            assert after["params"]["result"]["parent_hash"] == before["params"]["result"]["hash"]
        assert socket.call(unsubscribe, subscription) is True
        assert socket.call(unsubscribe, subscription) is False


def test_a_watched_transaction_is_ready_then_finalized(shared_node: NodeDirectory) -> None:
    genesis = shared_node.load_genesis()
    with open_socket(shared_node) as raw:
        socket = Socket(raw)
        for _ in range(2):
            nonce = socket.call("system_accountNextIndex", f"0x{BOB.account.hex()}")
            transaction = sign_call(genesis.hash, BOB, nonce, Remark(b"watched"))
            subscription = socket.call("author_submitAndWatchExtrinsic", f"0x{encode(transaction).hex()}")
            updates = [socket.wait()["params"] for _ in range(2)]
            assert [one["subscription"] for one in updates] == [subscription] * 2
            assert updates[0]["result"] == "ready"
            status = socket.call("author_extrinsicStatus", f"0x{compute_extrinsic_hash(transaction).hex()}")
            block_hash = socket.call("chain_getBlockHash", status["height"])
            assert updates[1]["result"] == {"finalized": block_hash}
            assert status["receipt"]["events"][0]["type"] == "Remarked"


def test_a_refused_transaction_is_not_watched(shared_node: NodeDirectory) -> None:
    with open_socket(shared_node) as raw:
        refused = Socket(raw).call("author_submitAndWatchExtrinsic", "0x00")
        assert (refused["code"], refused["data"]["reason"]) == (1010, "DecodeError")


def test_subscriptions_are_bounded_and_those_that_ended_do_not_count(shared_node: NodeDirectory) -> None:
    with open_socket(shared_node) as raw:
        socket = Socket(raw)
        first = [socket.call("chain_subscribeNewHeads") for _ in range(SUBSCRIPTIONS_PER_SOCKET_MAX)]
        assert socket.call("chain_subscribeNewHeads")["code"] == -32005
        assert socket.call("chain_unsubscribeNewHeads", first[0]) is True
        assert isinstance(socket.call("chain_subscribeNewHeads"), str)


def test_storage_is_told_now_and_whenever_a_block_changes_it(shared_node: NodeDirectory) -> None:
    genesis = shared_node.load_genesis()
    changing, still = (f"0x{one.hex()}" for one in (accounts.key(BOB.account), b"nothing"))
    with open_socket(shared_node) as raw:
        socket = Socket(raw)
        subscription = socket.call("state_subscribeStorage", [changing, still])
        first = socket.wait()
        assert first["method"] == "state_storage"
        assert first["params"]["subscription"] == subscription
        assert [key for key, _ in first["params"]["result"]["changes"]] == [changing, still]
        nonce = socket.call("system_accountNextIndex", f"0x{BOB.account.hex()}")
        transaction = sign_call(genesis.hash, BOB, nonce, Remark(b"stored"))
        extrinsic = socket.call("author_submitExtrinsic", f"0x{encode(transaction).hex()}")
        told = socket.wait()["params"]["result"]
        ((key, value),) = told["changes"]
        assert key == changing
        assert value == socket.call("state_getStorage", changing, told["height"])
        assert socket.call("author_extrinsicStatus", extrinsic)["height"] == told["height"]
        assert socket.call("state_unsubscribeStorage", subscription) is True
        for wrong in ([], [changing] * 65, ["0x0"], [1], changing):
            assert socket.call("state_subscribeStorage", wrong)["code"] == -32602


def test_requests_are_subscribed_to_and_left(shared_node: NodeDirectory) -> None:
    with open_socket(shared_node) as raw:
        socket = Socket(raw)
        assert socket.call("inference_subscribeRequests", 1)["code"] == -32602
        subscription = socket.call("inference_subscribeRequests")
        assert socket.call("inference_unsubscribeRequests", subscription) is True


def test_an_unsafe_method_is_not_for_a_web_page(shared_node: NodeDirectory) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "author_removeExtrinsic", "params": [f"0x{bytes(32).hex()}"]}
    assert httpx.post(shared_node.url, json=body).json()["result"] is False
    for header in ("Origin", "X-Forwarded-For", "Forwarded"):
        answer = httpx.post(shared_node.url, json=body, headers={header: "http://127.0.0.1"}).json()
        assert answer["error"]["code"] == -32012


def test_subscriptions_need_a_websocket(shared_node: NodeDirectory) -> None:
    body = {"jsonrpc": "2.0", "id": 1, "method": "chain_subscribeNewHeads"}
    answer = httpx.post(shared_node.url, json=body).json()
    assert answer["error"]["code"] == -32601
    assert "connect to ws://" in answer["error"]["message"]


def test_a_body_that_is_too_large_is_answered_as_json_rpc(shared_node: NodeDirectory) -> None:
    answer = httpx.post(shared_node.url, content=b" " * (1 << 20) + b"1")
    assert answer.status_code == 413
    assert answer.json() == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32005, "message": "a request has at most 1048576 bytes"},
    }


def test_health_over_http(shared_node: NodeDirectory) -> None:
    response = httpx.get(f"{shared_node.url}/health")
    assert response.status_code == 200
    assert response.json()["isHealthy"] is True
