"""Whether the gateway can do its work, and if not, what is missing, by name."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from node.gateway.accounts.schema import DatabaseUnusable
from node.gateway.accounts.store import AccountStore
from node.gateway.catalog import Catalog
from node.gateway.errors import translate
from proto_specs.errors import MyelinError

CHECK_TIMEOUT_S = 5.0
KEPT_S = 2.0

Probe = Callable[[], Awaitable[None]]
"""A check of the account: raises MyelinError with the reason when it cannot fund a session."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is missing. `reason` is its name for programs."""

    reason: str
    message: str


class HealthCheck:
    """Asks everything that answers need; the result is kept for KEPT_S, so that asking often costs nothing."""

    def __init__(
        self, catalog: Catalog, store: AccountStore, probe_account: Probe, probe_workers: Probe | None = None
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._probe_account = probe_account
        self._probe_workers = probe_workers
        self._found: tuple[Fault, ...] = ()
        self._found_s = -KEPT_S
        self._lock = trio.Lock()

    async def find_faults(self) -> tuple[Fault, ...]:
        """What is missing; nothing when all is well."""
        async with self._lock:
            if trio.current_time() >= self._found_s + KEPT_S:
                self._found = (*await self._ask("database", self._check_database), *await self._check_network())
                self._found_s = trio.current_time()
        return self._found

    async def _check_network(self) -> list[Fault]:
        faults = await self._ask("node_unreachable", self._check_models)
        if faults:
            return faults
        away = [] if self._probe_workers is None else await self._ask("no_worker", self._probe_workers)
        return [*self._list_unserved(), *away, *await self._ask("account_cannot_fund", self._probe_account)]

    async def _ask(self, reason: str, check: Probe) -> list[Fault]:
        try:
            with trio.fail_after(CHECK_TIMEOUT_S):
                await check()
        except trio.TooSlowError:
            return [Fault(reason, f"no answer within {CHECK_TIMEOUT_S:.0f} s")]
        except MyelinError as error:
            known = translate(error)
            is_node = known is not None and known.code == "chain_unreachable"
            return [Fault("node_unreachable" if is_node else reason, error.message)]
        return []

    async def _check_database(self) -> None:
        await self._store.check()
        if self._store.trouble:
            raise DatabaseUnusable(self._store.trouble)

    async def _check_models(self) -> None:
        self._models = await self._catalog.list_models()

    def _list_unserved(self) -> list[Fault]:
        if not self._models:
            return [Fault("no_model", "no stored model is registered on chain: run `myelin model fetch`")]
        return [Fault("no_path", f"{one.name}: {one.trouble}") for one in self._models if one.price is None]
