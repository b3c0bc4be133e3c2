"""Garbage against a real RPC process: every answer is a proper error, the same process lives on, blocks keep coming."""

from __future__ import annotations

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.sync.client import connect

from node.local_api.methods.all import METHODS
from node.local_api.wire.errors import INVALID_PARAMS, INVALID_TRANSACTION
from node.local_api.wire.frames import CALLS_MAX
from node.web.rpc.jsonrpc import BODY_BYTES_MAX
from tests.integration.node.processes import NodeDirectory

pytestmark = pytest.mark.slow
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KNOWN_CODES = {-32700, -32600, -32601, -32602, -32005, -32011, 1010}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=10), inner, max_size=5),
    max_leaves=15,
)
HEX = st.binary(max_size=400).map(lambda data: f"0x{data.hex()}")
CALLS = st.fixed_dictionaries(
    {
        "jsonrpc": st.just("2.0"),
        "id": st.integers(0, 9),
        "method": st.sampled_from(sorted(METHODS)),
        "params": st.lists(HEX | st.integers(0, 5) | JSON, max_size=3)
        | st.dictionaries(st.sampled_from(["block", "key", "account", "extrinsic", "start"]), HEX | JSON, max_size=2),
    }
)


@pytest.fixture(scope="module")
def http(shared_node: NodeDirectory) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=shared_node.url, timeout=30) as client:
        yield client


@pytest.fixture(autouse=True)
def _it_lives(shared_node: NodeDirectory, http: httpx.Client) -> Iterator[None]:
    """The RPC process is the same one after the test as before, and so is the node."""
    before = find_rpc_process(shared_node)
    yield
    assert find_rpc_process(shared_node) == before
    assert call(http, "system_health")["result"]["isHealthy"]
    assert "Traceback" not in shared_node.log.read_text()


def find_rpc_process(node: NodeDirectory) -> int:
    """The id of the process that listens at the node's port."""
    inodes = {
        fields[9]
        for fields in (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
        if fields[3] == "0A" and int(fields[1].split(":")[1], 16) == node.port
    }
    for one in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            found = re.fullmatch(r"socket:\[(\d+)\]", str(one.readlink()))
            if found and found[1] in inodes:
                return int(one.parts[2])
    raise AssertionError(f"nobody listens at {node.port}")


def post(http: httpx.Client, body: bytes) -> Any:
    response = http.post("/", content=body)
    return None if response.status_code == 204 else response.json()


def call(http: httpx.Client, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    return post(http, json.dumps(body).encode())


def check(answer: Any) -> None:
    for one in answer if isinstance(answer, list) else [answer]:
        if one is not None and "error" in one:
            assert one["error"]["code"] in KNOWN_CODES, one
            assert len(one["error"]["message"]) < 500


@FUZZ
@given(body=st.binary(max_size=300))
def test_any_bytes(http: httpx.Client, body: bytes) -> None:
    check(post(http, body))


@FUZZ
@given(request=JSON | CALLS | st.lists(CALLS | JSON, max_size=4))
def test_any_json_and_any_parameters(http: httpx.Client, request: Any) -> None:
    check(post(http, json.dumps(request).encode()))


@FUZZ
@given(data=st.binary(min_size=1, max_size=300))
def test_any_bytes_as_a_transaction(http: httpx.Client, data: bytes) -> None:
    error = call(http, "author_submitExtrinsic", f"0x{data.hex()}")["error"]
    assert (error["code"], error["data"]["reason"]) == (INVALID_TRANSACTION, "DecodeError")


@pytest.mark.parametrize("size", [BODY_BYTES_MAX + 1, 20 * BODY_BYTES_MAX])
def test_huge_bodies(http: httpx.Client, size: int) -> None:
    with contextlib.suppress(httpx.WriteError, httpx.RemoteProtocolError, httpx.ReadError):
        assert http.post("/", content=b"[" * size).status_code == 413


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"method":['])
def test_deep_nesting(http: httpx.Client, opening: bytes) -> None:
    assert post(http, opening * (BODY_BYTES_MAX // len(opening)))["error"]["code"] == -32700


def test_huge_batches(http: httpx.Client) -> None:
    one = {"jsonrpc": "2.0", "id": 1, "method": "system_name"}
    assert post(http, json.dumps([one] * (CALLS_MAX + 1)).encode())["error"]["code"] == -32005
    assert len(post(http, json.dumps([one] * CALLS_MAX).encode())) == CALLS_MAX


def test_huge_parameters(http: httpx.Client) -> None:
    for method in sorted(METHODS):
        answer = call(http, method, "0x" + "ff" * 300_000)
        if "error" in answer:
            assert answer["error"]["code"] in (INVALID_PARAMS, INVALID_TRANSACTION)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_http_methods_and_paths(http: httpx.Client, method: str) -> None:
    assert http.request(method, "/").status_code == 405
    assert http.request(method, "/../../etc/passwd").status_code in (404, 405)


def test_no_page_of_another_origin_may_read_answers(http: httpx.Client) -> None:
    response = http.post("/", content=b"{}", headers={"Origin": "https://example.org"})
    assert not [name for name in response.headers if name.startswith("access-control")]


@FUZZ
@given(data=st.binary(max_size=300) | st.binary(max_size=100).map(lambda tail: b"POST / HTTP/1.1\r\n" + tail))
def test_any_bytes_on_the_port(shared_node: NodeDirectory, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", shared_node.port), timeout=5) as raw:
        raw.sendall(data)
        raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            while raw.recv(65_536):
                pass


@settings(FUZZ, max_examples=60)
@given(frames=st.lists(st.binary(max_size=200) | st.text(max_size=200) | CALLS.map(json.dumps), max_size=6))
def test_any_frames_on_a_websocket(shared_node: NodeDirectory, frames: list[bytes | str]) -> None:
    with connect(f"ws://127.0.0.1:{shared_node.port}/") as socket_:
        for frame in frames:
            socket_.send(frame)
        socket_.send(json.dumps({"jsonrpc": "2.0", "id": "end", "method": "system_name"}))
        while True:
            answer = json.loads(socket_.recv(timeout=10))
            check(answer)
            if isinstance(answer, dict) and answer.get("id") == "end":
                assert answer["result"] == "myelin"
                break


def test_a_huge_websocket_message(shared_node: NodeDirectory) -> None:
    with connect(f"ws://127.0.0.1:{shared_node.port}/") as socket_:
        with contextlib.suppress(ConnectionClosed):
            socket_.send(b"[" * (2 * BODY_BYTES_MAX))
        with pytest.raises(ConnectionClosed):
            socket_.recv(timeout=10)


def test_a_websocket_that_breaks_its_protocol(shared_node: NodeDirectory) -> None:
    with socket.create_connection(("127.0.0.1", shared_node.port), timeout=5) as raw:
        upgrade = (
            "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        raw.sendall(upgrade.encode() + b"\xff" * 1000)
        raw.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError, InvalidMessage):
            while raw.recv(65_536):
                pass


def test_many_idle_connections_do_not_lock_others_out(shared_node: NodeDirectory, http: httpx.Client) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(socket.create_connection(("127.0.0.1", shared_node.port), timeout=5))
        assert call(http, "system_name")["result"] == "myelin"
