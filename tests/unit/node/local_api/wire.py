"""A known chain behind the node's local socket and the public RPC in front of it, all in one process.

What is asked passes every layer that a client's request passes: parsing, limits, the frame to the node, the method.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio
from starlette.testclient import TestClient, WebSocketTestSession

from node.chain.admission import TransactionAdmission
from node.chain.bus import BlockBus
from node.local_api.methods.all import NodeView
from node.local_api.server import serve_api
from node.signatures.processes import SignatureProcesses
from node.web.rpc.app import RpcServer
from tests.unit.node.local_api.known_chain import KnownChain

LISTENS = ("/ip4/127.0.0.1/tcp/30333/p2p/12D3KooWQYV9dGMFoRzNStwpXztXaBUjtPqi6aU76ZgUriHhKust",)
AGE_MS = 250
"""How old the last block is whenever somebody asks."""
CALLS_PER_S = 1_000_000
READY_S = 30


class Wire:
    """The endpoint, asked by the operator's own machine, and the node's thread behind it."""

    def __init__(self, http: TestClient, chain: KnownChain, run_in_node: Callable[[Callable[[], Any]], Any]) -> None:
        self._http = http
        self._run_in_node = run_in_node
        self.chain = chain

    def post(self, body: bytes, headers: dict[str, str]) -> Any:
        """The answer to a request's text; None when there is none."""
        answer = self._http.post("/", content=body, headers=headers)
        return None if answer.status_code == 204 else answer.json()

    def open_socket(self) -> WebSocketTestSession:
        """A WebSocket, to be entered."""
        return self._http.websocket_connect("/")

    def add_block(self, make: Callable[[KnownChain], Any]) -> None:
        """Have the node's thread finalize one more block, which everybody is told of."""
        self._run_in_node(lambda: make(self.chain))

    def wait_until_ready(self) -> None:
        """Until the endpoint has reached the node."""
        deadline = time.monotonic() + READY_S
        while self._http.get("/health").status_code != 200:
            assert time.monotonic() < deadline, "the endpoint never reached the node"


@contextmanager
def serve_known_chain(directory: Path, calls_per_s: int = CALLS_PER_S) -> Iterator[Wire]:
    """The known chain, made in the directory, until the end of the block."""
    path = directory / "node.sock"
    chain = KnownChain(directory / "db")
    node = _Node(chain, path)
    thread = threading.Thread(target=trio.run, args=(node.run,))
    thread.start()
    try:
        assert node.is_ready.wait(READY_S)
        with TestClient(RpcServer(path, calls_per_s).make_app(), client=("127.0.0.1", 50_000)) as http:
            wire = Wire(http, chain, node.do)
            wire.wait_until_ready()
            yield wire
    finally:
        node.stop()
        thread.join()
        chain.node.store.close()


class _Node:
    """The node's side of the local socket, in a thread of its own."""

    def __init__(self, chain: KnownChain, path: Path) -> None:
        self._chain = chain
        self._path = path
        self._bus = BlockBus()
        self.is_ready = threading.Event()

    async def run(self) -> None:
        world = self._chain.node
        view = NodeView(
            world.genesis.spec,
            world.store,
            world.pool,
            lambda: world.head.time_ms + AGE_MS,
            is_validator=True,
            list_addresses=lambda: LISTENS,
            report=lambda _evidence: True,
        )
        signatures = SignatureProcesses(1)
        admission = TransactionAdmission(world.pool, signatures)
        self._token = trio.lowlevel.current_trio_token()
        async with trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            await nursery.start(signatures.run)
            nursery.start_soon(admission.run)
            await nursery.start(serve_api, self._path, view, self._bus, admission)
            self._chain.publish = self._bus.publish
            self.is_ready.set()

    def do(self, work: Callable[[], Any]) -> Any:
        return trio.from_thread.run_sync(work, trio_token=self._token)

    def stop(self) -> None:
        if self.is_ready.is_set():
            self.do(self._scope.cancel)
