"""A gateway in a thread of its own, on a free port, before a fake inference."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from node.gateway.accounts.keys import KeyLimits, create_key, revoke_key
from node.gateway.accounts.schema import open_database
from node.gateway.accounts.store import AccountStore, StoredRequest
from node.gateway.service import run_gateway
from node.gateway.settings import GatewaySettings
from tests.unit.node.gateway.fake_inference import FakeInference, FixedCatalog, make_model


@dataclass
class RunningGateway:
    """What a test asks and sets."""

    settings: GatewaySettings
    inference: FakeInference = field(default_factory=FakeInference)
    catalog: FixedCatalog = field(default_factory=lambda: FixedCatalog((make_model(),)))
    port: int = 0
    key: str = ""
    account_failure: Exception | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def make_key(self, limits: KeyLimits | None = None, name: str = "test") -> str:
        database = open_database(self.settings.database)
        try:
            return create_key(database, name, limits or KeyLimits())
        finally:
            database.close()

    def revoke(self, name: str) -> int:
        database = open_database(self.settings.database)
        try:
            return revoke_key(database, name)
        finally:
            database.close()

    def read_request(self, request: bytes) -> StoredRequest:
        store = AccountStore(self.settings.database)
        try:
            found = store.get_request(request)
            assert found is not None
            return found
        finally:
            store.close()

    async def probe_account(self) -> None:
        if self.account_failure is not None:
            raise self.account_failure


@contextmanager
def run_in_thread(gateway: RunningGateway) -> Iterator[RunningGateway]:
    """Runs it for the block."""
    started = threading.Event()
    scopes: list[tuple[trio.CancelScope, trio.lowlevel.TrioToken]] = []
    failures: list[BaseException] = []

    async def serve() -> None:
        with trio.CancelScope() as scope:
            scopes.append((scope, trio.lowlevel.current_trio_token()))
            async with trio.open_nursery() as nursery:
                gateway.inference.holding = trio.Event()
                gateway.port = await nursery.start(
                    run_gateway, gateway.settings, gateway.inference, gateway.catalog, gateway.probe_account
                )
                started.set()

    def work() -> None:
        try:
            trio.run(serve)
        except BaseException as error:
            failures.append(error)
        finally:
            started.set()

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    try:
        if failures:
            raise failures[0]
        gateway.key = gateway.make_key()
        yield gateway
    finally:
        scope, token = scopes[0]
        if not failures:
            token.run_sync_soon(scope.cancel)
        thread.join()
    if failures:
        raise failures[0]


def make_gateway(directory: Path, **changes: object) -> RunningGateway:
    """One that is not running yet."""
    settings = GatewaySettings(directory, 200_000, port=0, **changes)  # type: ignore[arg-type]
    return RunningGateway(settings)


def poll_until(holds: Callable[[], bool]) -> None:
    """Until it holds: what another thread does after its client has left has no event to wait for."""
    deadline_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline_s, "it never held"
        threading.Event().wait(0.01)
