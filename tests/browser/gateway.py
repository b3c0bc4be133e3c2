"""A gateway to drive the page with: the page's real files and headers, answers that a test scripts step by step."""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from node.gateway.page.pages import load_page_files
from tests.browser.answers import Break, Gate, Refuse, Step, tell

GATE_SECONDS_MAX = 60
POLL_SECONDS = 0.02
FILES = load_page_files()


@dataclass
class FakeGateway:
    """What a test sets and looks at. `script` makes the steps of an answer out of a request's body."""

    url: str = ""
    key: str | None = None
    unserved: set[str] = field(default_factory=set)
    models: list[str] = field(default_factory=lambda: ["SmolLM2-135M-Instruct", "gemma-3-270m-it"])
    script: Callable[[dict[str, Any]], Iterable[Step]] = lambda body: tell("Hello.")
    resume: Callable[[str], Iterable[Step]] = lambda request: [Refuse(409, "It is over.", "request_not_resumable")]
    """The same for an answer that is resumed, by its request."""
    proofs: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asked: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set once a client left before its answer ended."""

    def answer_proof(self, request: str) -> dict[str, Any] | None:
        """The next of the recorded states of a request; the last one stays."""
        states = self.proofs.get(request)
        if not states:
            return None
        return states.pop(0) if len(states) > 1 else states[0]


class Handler(BaseHTTPRequestHandler):
    """One connection. HTTP/1.1 with a length, or chunks, so that a broken stream can be told from one that ends."""

    protocol_version = "HTTP/1.1"
    gateway: FakeGateway

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the base's
        """Tests are quiet."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.gateway.paths.append(self.path)
        if path in FILES:
            file = FILES[path]
            self.reply(200, file.body, file.list_headers())
        elif not self.may_enter():
            self.refuse(Refuse(401, "This key is not known.", "invalid_api_key"))
        elif path == "/v1/models":
            data = [
                {"id": name, "object": "model", "myelin": {"is_served": name not in self.gateway.unserved}}
                for name in self.gateway.models
            ]
            self.reply_json(200, {"object": "list", "data": data})
        elif path.startswith("/v1/requests/"):
            proof = self.gateway.answer_proof(path.rpartition("/")[2])
            if proof is None:
                self.refuse(Refuse(404, "No such request.", "request_not_found"))
            else:
                self.reply_json(200, proof)
        else:
            self.refuse(Refuse(404, f"No route {path}.", "not_found"))

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
        self.gateway.paths.append(self.path)
        if not self.may_enter():
            self.refuse(Refuse(401, "This key is not known.", "invalid_api_key"))
            return
        if self.path.endswith("/resume"):
            steps = iter(self.gateway.resume(self.path.split("/")[-2]))
        else:
            self.gateway.asked.append(body)
            steps = iter(self.gateway.script(body))
        first = next(steps)
        if isinstance(first, Refuse):
            self.refuse(first)
            return
        assert isinstance(first, dict), "an answer begins with its headers"
        self.send_response(200)
        for name, value in {"content-type": "text/event-stream", "transfer-encoding": "chunked", **first}.items():
            self.send_header(name, value)
        self.end_headers()
        self.stream(steps)

    def stream(self, steps: Iterator[Step]) -> None:
        try:
            for step in steps:
                if isinstance(step, Break):
                    self.close_connection = True
                    return
                if isinstance(step, Gate):
                    self.wait(step)
                elif isinstance(step, str):
                    data = step.encode()
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                    self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
        except ConnectionError:
            self.gateway.gone.set()
            self.close_connection = True

    def wait(self, gate: Gate) -> None:
        """Until the test opens the gate, or the client is gone."""
        for _ in range(int(GATE_SECONDS_MAX / POLL_SECONDS)):
            if gate.is_open.wait(POLL_SECONDS):
                return
            readable, _, _ = select.select([self.connection], [], [], 0)
            if readable and not self.connection.recv(1):
                raise ConnectionAbortedError

    def may_enter(self) -> bool:
        return self.gateway.key is None or self.headers.get("authorization") == f"Bearer {self.gateway.key}"

    def refuse(self, refusal: Refuse) -> None:
        error = {"message": refusal.message, "type": "invalid_request_error", "code": refusal.code}
        headers = {} if refusal.retry_after is None else {"retry-after": str(refusal.retry_after)}
        self.reply_json(refusal.status, {"error": error}, headers)

    def reply_json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self.reply(status, json.dumps(value).encode(), {"content-type": "application/json", **(headers or {})})

    def reply(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Threads end with the test; a browser that leaves in the middle of an answer is no error."""

    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """The default prints a traceback."""


@contextmanager
def serve_page() -> Iterator[FakeGateway]:
    """A gateway on a free port of this machine."""
    gateway = FakeGateway()
    handler = type("OneGateway", (Handler,), {"gateway": gateway})
    with Server(("127.0.0.1", 0), handler) as server:
        gateway.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()
