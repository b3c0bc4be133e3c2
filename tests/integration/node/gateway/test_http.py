"""What a gateway does on its socket beside answering: waits, keeps alive, cuts off, refuses, tells of itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from inference.routing import NoPathError, Prefer
from node.client.answer import Resolution
from node.client.chain_view import ChainUnreachable
from node.client.errors import EscrowShort
from node.gateway.accounts.keys import KeyLimits
from node.gateway.accounts.schema import DATABASE_NAME
from node.gateway.http import sse
from node.gateway.http.connections import ConnectionBounds
from tests.unit.node.gateway.fake_inference import NAME, FixedCatalog, make_model, say
from tests.unit.node.gateway.running import RunningGateway, make_gateway, poll_until, run_in_thread

BODY = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}]}


def ask(gateway: RunningGateway, body: dict[str, object], **headers: str) -> httpx.Response:
    named = {"authorization": f"Bearer {gateway.key}", **headers}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=named, timeout=20)


def open_raw(gateway: RunningGateway, body: dict[str, object], receive_bytes: int = 0, line: str = "") -> socket.socket:
    """A request over a plain socket."""
    data = json.dumps(body).encode()
    made = socket.socket()
    if receive_bytes:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    made.connect(("127.0.0.1", gateway.port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
    made.sendall(f"{head}{line}content-length: {len(data)}\r\n\r\n".encode() + data)
    return made


def test_a_silent_stream_gets_comments(gateway: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse.EventWriter.keep_alive, "__defaults__", (0.05,))
    gateway.inference.hold_at = 0
    with open_raw(gateway, {**BODY, "stream": True}) as client:
        received = b""
        while received.count(b": ping\n\n") < 3:
            received += client.recv(4096)
        assert b"HTTP/1.1 200" in received
        assert b"x-myelin-session" in received
    poll_until(lambda: len(gateway.inference.left) == 1)


def test_waiting_for_the_chain(gateway: RunningGateway) -> None:
    gateway.inference.resolution = Resolution.VERIFIED
    done = ask(gateway, BODY, **{"x-myelin-wait": "verified"}).json()
    assert [one["state"] for one in done["myelin"]["requests"]] == ["verified"]
    text = ask(gateway, {**BODY, "stream": True}, **{"x-myelin-wait": "settled"}).text
    last = json.loads(text.strip().split("\n\n")[-2].removeprefix("data: "))
    assert last["choices"] == []
    assert last["myelin"]["requests"][0]["state"] == "verified"
    assert text.endswith("data: [DONE]\n\n")
    assert ask(gateway, BODY, **{"x-myelin-wait": "soon"}).status_code == 400


def test_a_request_says_what_its_path_is_chosen_by(gateway: RunningGateway) -> None:
    for given in ("cheap", "FAST"):
        assert ask(gateway, BODY, **{"x-myelin-prefer": given}).status_code == 200
    ask(gateway, BODY)
    assert [one.prefer for one in gateway.inference.asked] == [Prefer.CHEAP, Prefer.FAST, Prefer.FAST]
    refused = ask(gateway, BODY, **{"x-myelin-prefer": "free"})
    assert refused.status_code == 400
    assert "fast or cheap" in refused.text


def test_the_state_of_a_request_is_for_its_key_alone(gateway: RunningGateway) -> None:
    name = ask(gateway, BODY).headers["x-myelin-request"]
    url = f"{gateway.url}/v1/requests/{name}"
    found = httpx.get(url, headers={"x-api-key": gateway.key}).json()
    assert (found["state"], found["final"], found["progress"]) == ("pending", False, "done")
    gateway.inference.resolution = Resolution.VERIFIED
    found = httpx.get(url, headers={"x-api-key": gateway.key}).json()
    assert (found["state"], found["final"]) == ("verified", True)
    assert found["stages"][0] == {
        "worker": "a1" * 32,
        "start": 0,
        "end": 3,
        "status": "paid",
        "drawn": True,
        "distance_ppb": 1_000,
        "threshold_ppb": 30_000,
    }
    assert httpx.get(url, headers={"x-api-key": gateway.make_key()}).status_code == 404
    assert httpx.get(url).status_code == 401
    assert httpx.get(f"{url[:-1]}", headers={"x-api-key": gateway.key}).status_code == 404


def test_parallel_requests_cannot_overdraw(gateway: RunningGateway) -> None:
    """Each may cost more than half of the budget: while one is under way, no other begins."""
    gateway.inference.script = say("x" * 50)
    whole = ask(gateway, {**BODY, "max_tokens": 20})
    price = int(whole.headers["x-myelin-price-max"])
    gateway.key = gateway.make_key(KeyLimits(budget=price * 3 // 2), "tight")
    gateway.inference.hold_at = 3
    with open_raw(gateway, {**BODY, "stream": True, "max_tokens": 20}):
        poll_until(lambda: len(gateway.inference.answers) == 2)
        poll_until(lambda: gateway.inference.holding.is_set())
        refused = ask(gateway, {**BODY, "max_tokens": 20})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    left = gateway.inference.answers[1]
    poll_until(lambda: gateway.read_request(left.request).state == "cancelled")
    gateway.inference.hold_at = None
    assert ask(gateway, {**BODY, "max_tokens": 5}).status_code == 200


def test_a_client_that_reads_nothing_is_cut_off(tmp_path: Path) -> None:
    made = make_gateway(tmp_path, bounds=ConnectionBounds(stall_timeout_s=0.5))
    made.inference.script = say("x" * 4_000)
    with run_in_thread(made) as gateway:
        many = {**BODY, "stream": True, "max_tokens": 3_900, "n": 8, "logprobs": True, "top_logprobs": 20}
        with open_raw(gateway, many, receive_bytes=2048):
            poll_until(lambda: len(gateway.inference.left) == 8)
        poll_until(lambda: _read_states(gateway) == {"cancelled"})
        assert ask(gateway, {**BODY, "max_tokens": 5}).status_code == 200


@pytest.mark.parametrize("is_streamed", [False, True])
def test_a_connection_ends_or_goes_on_after_an_answer(tmp_path: Path, is_streamed: bool) -> None:
    """It ends when the client says so, else when it has been idle."""
    made = make_gateway(tmp_path, bounds=ConnectionBounds(idle_timeout_s=0.5))
    with run_in_thread(made) as gateway:
        for line in ("connection: close\r\n", ""):
            with open_raw(gateway, {**BODY, "stream": is_streamed}, line=line) as client:
                client.settimeout(20)
                received = b""
                while data := client.recv(65_536):
                    received += data
                assert b'"finish_reason":"stop"' in received


def test_idle_connections_are_closed_and_do_not_disturb(tmp_path: Path) -> None:
    made = make_gateway(tmp_path, bounds=ConnectionBounds(idle_timeout_s=3.0))
    with run_in_thread(made) as gateway:
        idle = [socket.create_connection(("127.0.0.1", gateway.port)) for _ in range(400)]
        idle[0].sendall(b"GET / HTTP/1.1\r\nhost:")  # headers that never end
        assert ask(gateway, BODY).status_code == 200
        for one in (*idle[:3], idle[-1]):
            one.settimeout(20)
            assert one.recv(1) == b""
        for one in idle:
            one.close()


def test_what_is_too_large_or_no_http_is_refused(gateway: RunningGateway) -> None:
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.key}) as client:
        large = client.post("/v1/chat/completions", content=b" " * (1 << 20) + b"{}")
        assert (large.status_code, large.json()["error"]["code"]) == (413, "request_too_large")
        parts = client.post("/v1/messages", content=(b" " * 65_536 for _ in range(20)))
        assert (parts.status_code, parts.json()["error"]["type"]) == (413, "request_too_large")
        assert client.get("/v1/models", headers={"x-large": "x" * 100_000}).status_code == 431
    with socket.create_connection(("127.0.0.1", gateway.port)) as raw:
        raw.sendall(b"\x16\x03\x01 nothing\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")


def test_health_says_what_is_missing(tmp_path: Path) -> None:
    made = make_gateway(tmp_path)
    unserved = make_model()
    made.catalog = FixedCatalog((type(unserved)(*[*_values(unserved)[:4], None, "nobody serves layers 0-2"]),))
    with run_in_thread(made) as gateway:
        found = httpx.get(f"{gateway.url}/health")
        assert (found.status_code, _reasons(found)) == (503, ["no_path"])
    made.catalog = FixedCatalog((unserved,))
    made.account_failure = EscrowShort(10, 1)
    with run_in_thread(made) as gateway:
        assert _reasons(httpx.get(f"{gateway.url}/health")) == ["account_cannot_fund"]
    made.account_failure = None
    made.catalog.failure = ChainUnreachable("no node answers")
    with run_in_thread(made) as gateway:
        assert _reasons(httpx.get(f"{gateway.url}/health")) == ["node_unreachable"]
        assert ask(gateway, BODY).json()["error"]["code"] == "chain_unreachable"
    made.catalog.failure = None
    with run_in_thread(made) as gateway:
        assert httpx.get(f"{gateway.url}/health").json() == {"status": "healthy", "faults": []}


def test_metrics_count(gateway: RunningGateway) -> None:
    ask(gateway, BODY)
    gateway.inference.refuse = NoPathError(())
    ask(gateway, BODY)
    text = httpx.get(f"{gateway.url}/metrics").text
    assert 'gen_ai_client_token_usage_total{gen_ai_operation_name="chat"' in text
    assert 'gen_ai_server_time_to_first_token_seconds_count{gen_ai_request_model="Toy-1"} 1.0' in text
    assert 'myelin_gateway_paths_failed_total{error_type="no_path"} 1.0' in text


def test_without_keys_no_other_page_and_no_other_host_may_ask(tmp_path: Path) -> None:
    with run_in_thread(make_gateway(tmp_path, is_open=True, origins=("https://mine.example",))) as gateway:
        assert ask(gateway, BODY).status_code == 200
        assert ask(gateway, BODY, origin=gateway.url).status_code == 200
        mine = ask(gateway, BODY, origin="https://mine.example")
        assert (mine.status_code, mine.headers["access-control-allow-origin"]) == (200, "https://mine.example")
        assert ask(gateway, BODY, origin="https://evil.example").status_code == 403
        assert ask(gateway, BODY, host="rebound.example").status_code == 403


def test_the_page_and_the_document(gateway: RunningGateway) -> None:
    page = httpx.get(gateway.url)
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert httpx.get(gateway.url, headers={"if-none-match": page.headers["etag"]}).status_code == 304
    assert httpx.get(f"{gateway.url}/page/app.js").status_code == 200
    assert httpx.get(f"{gateway.url}/page/../service.py").status_code == 404
    assert "/v1/messages" in httpx.get(f"{gateway.url}/openapi.json").json()["paths"]
    assert httpx.get(f"{gateway.url}/v1/nothing").json()["error"]["code"] == "not_found"
    assert httpx.get(f"{gateway.url}/v1/messages").json()["error"]["type"] == "invalid_request_error"


def test_a_killed_gateway_forgets_nothing_that_it_answered(tmp_path: Path) -> None:
    """SIGKILL in mid-stream: the row is there, and counts at its highest price until the chain says less."""
    code = Path(__file__).with_name("serve_and_hold.py")
    root = Path(__file__).parents[4]
    process = subprocess.Popen(
        [sys.executable, str(code), str(tmp_path)],
        stdout=subprocess.PIPE,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert process.stdout is not None
    with process:
        port = int(process.stdout.readline())
        body = {**BODY, "stream": True, "max_tokens": 50}
        with httpx.stream("POST", f"http://127.0.0.1:{port}/v1/chat/completions", json=body, timeout=20) as answer:
            price = int(answer.headers["x-myelin-price-max"])
            request = answer.headers["x-myelin-request"]
            next(answer.iter_bytes())
            process.send_signal(signal.SIGKILL)
    with sqlite3.connect(tmp_path / DATABASE_NAME) as database:
        rows = database.execute("SELECT request, state, price_max FROM requests").fetchall()
    database.close()
    assert rows == [(bytes.fromhex(request), "open", price)]
    with run_in_thread(make_gateway(tmp_path)) as gateway:
        stored = gateway.read_request(bytes.fromhex(request))
        assert (stored.state, stored.cost) == ("interrupted", price)


def _read_states(gateway: RunningGateway) -> set[str]:
    return {gateway.read_request(one.request).state for one in gateway.inference.answers}


def _reasons(response: httpx.Response) -> list[str]:
    return [one["reason"] for one in response.json()["faults"]]


def _values(model: object) -> list[object]:
    return [getattr(model, name) for name in type(model).__slots__]
