"""Wires a gateway and runs it: database, follower, routes, server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import trio

from node.client.answer import Inference
from node.gateway.accounts.budget import Budgets
from node.gateway.accounts.rates import KeyRates
from node.gateway.accounts.store import open_store
from node.gateway.app import make_app
from node.gateway.calls import Counters
from node.gateway.catalog import Catalog
from node.gateway.composing import Desk
from node.gateway.follow import Follower
from node.gateway.grammars import GrammarJudge
from node.gateway.health import HealthCheck, Probe
from node.gateway.http.connections import serve_http
from node.gateway.journal import Journals
from node.gateway.metrics import GatewayMetrics
from node.gateway.settings import GatewaySettings, SettingsInvalid
from node.machine.files import lock_beside

log = logging.getLogger(__name__)

ENCODING_THREADS = 4


async def run_gateway(
    settings: GatewaySettings,
    inference: Inference,
    catalog: Catalog,
    probe_account: Probe,
    count_sessions: Callable[[], int] | None = None,
    probe_workers: Probe | None = None,
    task_status: Any = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until cancelled; starts with the port. Raises SettingsInvalid, DatabaseUnusable, OSError."""
    settings.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        lock = lock_beside(settings.database)
    except BlockingIOError:
        raise SettingsInvalid(
            f"another gateway works in {settings.directory}: stop it, or give another --base"
        ) from None
    with lock:
        async with open_store(settings.database) as store, trio.open_nursery() as nursery:
            metrics = GatewayMetrics()
            budgets = Budgets(store)
            metrics.show_escrow(lambda: budgets.reserved)
            if count_sessions is not None:
                metrics.show_sessions(count_sessions)
            follower = Follower(inference, store, metrics)
            counters = Counters(inference, store, budgets, follower, metrics)
            rates = KeyRates(trio.current_time)
            threads = trio.CapacityLimiter(ENCODING_THREADS)
            desk = Desk(settings, catalog, GrammarJudge(), counters, rates, threads, Journals(settings.journals))
            app = make_app(desk, HealthCheck(catalog, store, probe_account, probe_workers))
            nursery.start_soon(follower.run)
            port = await nursery.start(serve_http, app, settings.host, settings.port, settings.bounds)
            log.info("the gateway listens on http://%s:%d", settings.host, port)
            task_status.started(port)
