"""Follows requests that are over until the chain has nothing more to say of them, and tells who waits for it."""

from __future__ import annotations

import logging

import trio

from node.client.answer import Inference, RequestOutcome, Resolution
from node.client.chain_view import ChainUnreachable
from node.gateway.accounts.schema import DatabaseUnusable
from node.gateway.accounts.store import AccountStore, StoredRequest
from node.gateway.metrics import GatewayMetrics
from proto_specs.errors import MyelinError

log = logging.getLogger(__name__)

POLL_S = 1.0
POLL_MAX_S = 60.0
WAIT_S_MAX = 180.0


class Follower:
    """One task asks for all of them, the young ones often and the old ones seldom."""

    def __init__(
        self, inference: Inference, store: AccountStore, metrics: GatewayMetrics, poll_s: float = POLL_S
    ) -> None:
        self._inference = inference
        self._store = store
        self._metrics = metrics
        self._poll_s = poll_s
        self._due_s: dict[bytes, float] = {}
        self._every_s: dict[bytes, float] = {}
        self._changed = trio.Event()

    async def run(self) -> None:
        """Follow until cancelled, beginning with what an earlier run left."""
        for row in self._store.list_unresolved():
            self.follow(row.request)
        while True:
            now_s = trio.current_time()
            for request in [one for one, due_s in self._due_s.items() if due_s <= now_s]:
                await self._ask(request)
            await trio.sleep(self._poll_s)

    def follow(self, request: bytes) -> None:
        """Ask for this one from now on."""
        self._every_s[request] = self._poll_s
        self._due_s[request] = trio.current_time()

    async def wait_for(self, request: bytes, wanted: Resolution, timeout_s: float = WAIT_S_MAX) -> StoredRequest:
        """Until it is settled, or final when VERIFIED is wanted; or until the time is over. As it is then stored."""
        with trio.move_on_after(timeout_s):
            while not _is_reached(self._read(request).resolution, wanted):
                await self._changed.wait()
        return self._read(request)

    def _read(self, request: bytes) -> StoredRequest:
        found = self._store.get_request(request)
        assert found is not None, "a request that is followed is stored"
        return found

    async def _ask(self, request: bytes) -> None:
        before = self._store.get_request(request)
        if before is None or before.resolution.is_final:
            self._forget(request)
            return
        try:
            outcome = await self._inference.get_outcome(request, before.session)
            if outcome.resolution != before.resolution:
                await self._store.resolve(outcome)
                self._tell(outcome)
        except (ChainUnreachable, DatabaseUnusable):
            log.debug("the outcome of %s is not known yet", request.hex())
        except MyelinError as error:
            log.warning("the outcome of %s cannot be read: %s", request.hex(), error.message)
        if request in self._due_s:
            wait_s = self._every_s[request] = min(POLL_MAX_S, 1.2 * self._every_s[request])
            self._due_s[request] = trio.current_time() + wait_s

    def _tell(self, outcome: RequestOutcome) -> None:
        if outcome.resolution.is_final:
            self._forget(outcome.request)
            self._metrics.note_outcome(outcome.resolution.value)
        else:
            self._every_s[outcome.request] = self._poll_s
        self._changed.set()
        self._changed = trio.Event()

    def _forget(self, request: bytes) -> None:
        self._due_s.pop(request, None)
        self._every_s.pop(request, None)


def _is_reached(resolution: Resolution, wanted: Resolution) -> bool:
    return resolution.is_final or (wanted == Resolution.SETTLED and resolution == Resolution.SETTLED)
