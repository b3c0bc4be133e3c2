"""What no client sends: no key, odd numbers, broken bytes, broken HTTP. It is answered by a typed 4xx, never a 500."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from node.gateway.http import bodies
from node.gateway.http.connections import ConnectionBounds
from tests.integration.node.gateway.test_fuzz import DOCUMENT, POSTS, VALID, assert_answered, list_places, spoil
from tests.unit.node.gateway.running import RunningGateway, make_gateway, run_in_thread

IDLE_S = 0.5
GETS = [path for path, methods in DOCUMENT["paths"].items() if "get" in methods]
OPEN_PATHS = {"/health", "/metrics", "/openapi.json", "/"}
ODD_NUMBERS = (
    "1e400",
    "-1e400",
    "1e-400",
    "9" * 400,
    "-" + "9" * 4_000,
    "9" * 5_000,
    "NaN",
    "Infinity",
    "-0.0",
    "1E+2",
)
ODD_TEXTS = (b'"\xff\xfe"', b'"\xed\xa0\x80"', b'"\xc0\xaf"', b'"a\x00b"', b'"\\ud800"', b'"\\u0000"', b"'a'", b'"a')
PLACE = "<the odd value>"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """For clients that keep a connection: one that is closed while a busy machine makes them pause is no finding."""
    with run_in_thread(make_gateway(tmp_path_factory.mktemp("abuse"))) as running:
        yield running


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """For connections that it has to end by itself."""
    made = make_gateway(tmp_path_factory.mktemp("impatient"), bounds=ConnectionBounds(idle_timeout_s=IDLE_S))
    with pytest.MonkeyPatch.context() as patched, run_in_thread(made) as running:
        patched.setattr(bodies, "BODY_TIMEOUT_S", 2 * IDLE_S)
        yield running


@pytest.fixture(scope="module")
def client(gateway: RunningGateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": gateway.key}, timeout=30) as made:
        yield made


def test_without_a_key_or_with_a_revoked_one(gateway: RunningGateway) -> None:
    revoked = gateway.make_key(name="gone")
    gateway.revoke("gone")
    asked = len(gateway.inference.asked)
    headers: list[dict[str, str]] = [
        {},
        {"x-api-key": revoked},
        {"authorization": f"Bearer {revoked}"},
        {"authorization": f"Basic {gateway.key}"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer " + "x" * 8_000},
    ]
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        for named in headers:
            for path in POSTS:
                for content in (json.dumps(VALID[path]).encode(), b"{", b"x" * 5_000):
                    found = client.post(path, content=content, headers=named)
                    assert found.status_code == 401, (path, named, found.text)
                    assert_answered(found, path)
            for path in GETS:
                found = client.get(path.replace("{model}", "x").replace("{request}", "0" * 64), headers=named)
                assert (found.status_code == 401) == (path not in OPEN_PATHS), (path, found.status_code)
    assert len(gateway.inference.asked) == asked


def test_other_content_types(client: httpx.Client) -> None:
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
        "\xff/\xff",
        "",
        "x" * 5_000,
    ):
        for path in POSTS:
            headers = {"content-type": kind.encode("latin-1")}
            answered = client.post(path, content=json.dumps(VALID[path]), headers=headers)
            assert answered.status_code in (200, 400, 415), answered.text
            form = client.post(path, content=b"--x\r\na=1&b=2\r\n", headers=headers)
            assert form.status_code in (400, 415)
            assert_answered(form, kind)


def test_bodies_of_a_mebibyte(client: httpx.Client) -> None:
    for path in POSTS:
        for unit, field in (
            ('"a"', "stop"),
            ("[]", "messages"),
            ("1", "prompt"),
            ('{"a":1}', "tools"),
            ("0", "unknown"),
        ):
            count = ((1 << 20) - 100) // (len(unit) + 1)
            if field in VALID[path] or field == "unknown":
                whole = {**VALID[path], field: PLACE}
                text = json.dumps(whole).replace(f'"{PLACE}"', f"[{','.join([unit] * (count - 500))}]")
                assert_answered(client.post(path, content=text), (path, unit, field))
        long = {**VALID[path], "model": "x" * ((1 << 20) - 2_000)}
        found = client.post(path, content=json.dumps(long))
        assert found.status_code == 404
        assert len(found.content) < 2_000, "what was asked is quoted at length"


@pytest.mark.parametrize("path", POSTS)
def test_odd_numbers_and_texts_in_every_place(client: httpx.Client, path: str) -> None:
    for place in list_places(VALID[path]):
        text = json.dumps(spoil(VALID[path], place, PLACE)).encode()
        for odd in (*(one.encode() for one in ODD_NUMBERS), *ODD_TEXTS):
            assert_answered(client.post(path, content=text.replace(f'"{PLACE}"'.encode(), odd)), (place, odd[:20]))


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("depth", [40, 63, 65, 500, 20_000])
def test_deep_values_in_every_field(client: httpx.Client, path: str, depth: int) -> None:
    for field in (*VALID[path], "unknown", "metadata"):
        for opening, closing in (("[", "]"), ('{"a":', "}"), ('{"items":{"anyOf":[', "]}}")):
            text = json.dumps({**VALID[path], field: PLACE})
            deep = opening * depth + "1" + closing * depth
            found = client.post(path, content=text.replace(f'"{PLACE}"', deep))
            assert_answered(found, (field, depth))
            assert depth < 64 or found.status_code == 400


HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: KEY\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
GARBAGE = {
    "a chunk without a size": CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-5\r\n{}\r\n0\r\n\r\n",
    "a chunk's size without end": CHUNKED + b"f" * 200_000,
    "a chunk of 2^63": CHUNKED + b"8000000000000000\r\n" + b"x" * 100_000,
    "a chunk's extension without end": CHUNKED + b"5;" + b"x" * 200_000,
    "two lengths": HEAD + b"content-length: 5\r\ncontent-length: 6\r\n\r\n{}{}{}",
    "a length and chunks": HEAD
    + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "a negative length": HEAD + b"content-length: -1\r\n\r\n{}",
    "a length of 400 digits": HEAD + b"content-length: " + b"9" * 400 + b"\r\n\r\n{}",
    "an unknown coding": HEAD + b"transfer-encoding: gzip\r\n\r\n{}",
    "ten thousand headers": HEAD + b"".join(b"x-%d: y\r\n" % at for at in range(10_000)) + b"\r\n",
    "a header of a megabyte": HEAD + b"x: " + b"y" * (1 << 20) + b"\r\n\r\n",
    "a header without a name": HEAD + b": y\r\n\r\n",
    "a header with a zero": HEAD + b"x: a\0b\r\n\r\n",
    "a target of a megabyte": b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\n\r\n",
    "a target that is no path": b"GET x:\xff\xfe%zz HTTP/1.1\r\nhost: x\r\n\r\n",
    "no host": b"GET /v1/models HTTP/1.1\r\n\r\n",
    "an unknown method": b"\xff\xff / HTTP/1.1\r\nhost: x\r\n\r\n",
    "an unknown version": b"GET / HTTP/9.9\r\nhost: x\r\n\r\n",
    "bytes": bytes(range(256)) * 400 + b"\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200 + b"\r\n\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 4_096,
    "HTTP/2 by upgrade": b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n"
    b"http2-settings: \xff\xff\r\n\r\n",
    "a websocket": b"GET /v1/models HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n",
    "a websocket without a key": b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
def test_broken_http_ends_the_connection_with_a_4xx_or_nothing(
    impatient: RunningGateway, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    received = send_and_read(impatient.port, GARBAGE[name].replace(b"KEY", impatient.key.encode()))
    if received.startswith(b"HTTP/1.1"):
        assert received[9:10] in b"24" or received[9:12] == b"501", received[:200]
    assert not [one for one in caplog.records if one.levelname == "ERROR"], caplog.text
    assert httpx.get(f"{impatient.url}/health").status_code == 200


def send_and_read(port: int, data: bytes) -> bytes:
    """All that comes until the other side closes, which it has to do within a few idle times."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10 * IDLE_S) as raw:
        try:
            raw.sendall(data)
            while part := raw.recv(65_536):
                received += part
        except (BrokenPipeError, ConnectionResetError):
            pass
    return received


@pytest.mark.parametrize(
    "head", [b"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-slow: ", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
)
def test_heads_that_come_byte_by_byte_do_not_hold_a_connection(impatient: RunningGateway, head: bytes) -> None:
    """A byte now and then is no sign of life."""
    with socket.create_connection(("127.0.0.1", impatient.port), timeout=0.2) as raw:
        raw.sendall(head)
        until_s = time.monotonic() + 8 * IDLE_S
        while time.monotonic() < until_s:
            try:
                raw.sendall(b"\0" if head.startswith(b"PRI") else b"a")
                if not raw.recv(1):
                    return
            except TimeoutError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return
    pytest.fail("it was held")


def test_a_body_that_comes_byte_by_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BODY_TIMEOUT_S", 0.5)
    with run_in_thread(make_gateway(tmp_path)) as gateway:
        head = HEAD.replace(b"KEY", gateway.key.encode()) + b"content-length: 5000\r\n\r\n"
        received = b""
        with socket.create_connection(("127.0.0.1", gateway.port), timeout=0.1) as raw:
            raw.sendall(head)
            until_s = time.monotonic() + 10
            while not received and time.monotonic() < until_s:
                raw.sendall(b" ")
                try:
                    received += raw.recv(4_096)
                except TimeoutError:
                    continue
        assert received.startswith(b"HTTP/1.1 408"), received


@pytest.mark.parametrize("switch", ["h2c", "websocket"])
def test_who_asks_for_another_protocol_is_answered_in_this_one(impatient: RunningGateway, switch: str) -> None:
    """As clients do that would rather have HTTP/2; a request with a body cannot be one for a websocket."""
    data = json.dumps(VALID["/v1/chat/completions"]).encode()
    head = HEAD.replace(b"KEY", impatient.key.encode()) + b"content-length: %d\r\n" % len(data)
    head += b"connection: upgrade, http2-settings\r\nupgrade: %s\r\nhttp2-settings: AAMAAABk\r\n\r\n" % switch.encode()
    received = send_and_read(impatient.port, head + data)
    assert received.startswith(b"HTTP/1.1 200")
    assert b'"finish_reason"' in received


def test_a_text_too_long_for_any_model_is_too_long_for_its_context(client: httpx.Client) -> None:
    """Clients cut a conversation short by this code."""
    long = "word " * 20_000
    asked = {"messages": [{"role": "user", "content": long}], "prompt": long, "input": long}
    for path in POSTS:
        found = client.post(path, json={**VALID[path], **{one: asked[one] for one in asked if one in VALID[path]}})
        assert found.status_code == 400
        assert path.startswith("/v1/messages") or found.json()["error"]["code"] == "context_length_exceeded"
