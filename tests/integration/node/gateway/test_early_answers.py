"""An answer that is known before the body has come: the connection goes on, or says that it ends."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import h11
import pytest

from node.gateway.http import whole_bodies
from tests.unit.node.gateway.running import RunningGateway, make_gateway, run_in_thread

BODY = b"x" * 5_000


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with run_in_thread(make_gateway(tmp_path_factory.mktemp("early"))) as running:
        yield running


@pytest.fixture
def connection(gateway: RunningGateway) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=30) as made:
        yield made


def _write_head(connection: socket.socket, length: int = len(BODY)) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n"
    connection.sendall(head.encode())


def _read_answer(connection: socket.socket) -> h11.Response:
    """The next answer, its body taken from the connection."""
    parser = h11.Connection(h11.CLIENT)
    parser.send(h11.Request(method="POST", target="/", headers=[("host", "x"), ("content-length", "0")]))
    parser.send(h11.EndOfMessage())
    found: h11.Response | None = None
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(connection.recv(65_536))
        elif isinstance(event, h11.Response):
            found = event
        elif isinstance(event, h11.EndOfMessage):
            assert found is not None
            return found
        else:
            assert isinstance(event, h11.Data), event


def test_a_body_that_comes_after_its_answer_is_known(connection: socket.socket) -> None:
    for _ in range(3):
        _write_head(connection)
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):  # it knows its 401, and waits for the body nevertheless
            connection.recv(1)
        connection.settimeout(30)
        connection.sendall(BODY)
        answer = _read_answer(connection)
        assert answer.status_code == 401
        assert b"close" not in dict(answer.headers).get(b"connection", b"")


def test_a_body_that_never_comes_in_full(connection: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_bodies, "LEFT_TIMEOUT_S", 0.1)
    _write_head(connection)
    connection.sendall(BODY[:100])
    answer = _read_answer(connection)
    assert answer.status_code == 401
    assert dict(answer.headers)[b"connection"] == b"close"
    assert connection.recv(1) == b""


def test_a_path_that_is_not_there(connection: socket.socket) -> None:
    for _ in range(3):
        connection.sendall(b"POST /v1/nothing HTTP/1.1\r\nhost: x\r\ncontent-length: 5000\r\n\r\n" + BODY)
        assert _read_answer(connection).status_code == 404
