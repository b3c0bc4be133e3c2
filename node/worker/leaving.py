"""How a worker goes: no new requests at once, the chain told at once, running requests finished within a grace.

Within it the worker also opens what verifiers draw of the requests that ended: a worker that is gone is not paid.
Who is left after it is told `LEAVING`, each with a line in the log: a client goes on elsewhere.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import WorkerStatus
from node.client.account import SigningAccount
from node.worker.presence import Presence
from node.worker.requests import Requests
from proto_specs.errors import MyelinError
from proto_specs.types.calls import LeaveWorker
from proto_specs.types.wire import FailureCode

logger = logging.getLogger("myelin.worker")

CountUndecided = Callable[[], Awaitable[int]]
"""Requests that ended and may still be challenged. Raises MyelinError when the chain does not say."""

TELL_TIMEOUT_S = 5.0
DECIDED_POLL_S = 0.5
LINGER_S = 0.3
"""The last frames of requests that ended are written in this time, before their streams close."""
DROP_S_MAX = 5.0
"""A request that was told to end does so in this time; its memory goes with the process anyway."""


async def drain(
    requests: Requests, presence: Presence, count_undecided: CountUndecided, reason: str, grace_s: float
) -> None:
    """Refuse new requests for this reason, wait for the running ones, drop those that outlast the grace."""
    presence.leaving = f"this worker is leaving: {reason}"
    had_any = bool(requests)
    logger.info("leaving (%s): %d requests have %.0f s to finish", reason, len(requests), grace_s)
    with trio.move_on_after(grace_s):
        await requests.wait_idle()
        await _wait_decided(count_undecided)
    if had_any or requests:
        await _drop_rest(requests)
        await trio.sleep(LINGER_S)
    if requests:  # admitted before this worker was told to leave, and begun since
        await _drop_rest(requests)


async def _drop_rest(requests: Requests) -> None:
    for active in requests.list_running():
        computed, most = active.get_progress()
        logger.warning(
            "request %s: dropped, the worker leaves: %d of at most %d positions computed",
            active.request.hex()[:12],
            computed,
            most,
        )
        active.give_up(FailureCode.LEAVING, "the worker leaves, and the request outlasts its grace")
    with trio.move_on_after(DROP_S_MAX):
        await requests.wait_idle()


async def _wait_decided(count_undecided: CountUndecided) -> None:
    """Until no verifier asks for a window any more. Cancelled by the grace's end, it says what is left."""
    count = 0
    try:
        while True:
            count = await count_undecided()
            if not count:
                return
            await trio.sleep(DECIDED_POLL_S)
    except MyelinError as error:
        logger.warning("whether requests still wait for their verdict is not known: %s", error)
    except trio.Cancelled:
        if count:
            logger.warning("%d requests wait for their verdict: start again soon, they are not paid otherwise", count)
        raise


async def tell_chain(account: SigningAccount, worker: bytes, peer_id: str) -> None:
    """Say on chain that this worker goes, unless it is absent already or runs elsewhere. Failures are logged."""
    try:
        with trio.fail_after(TELL_TIMEOUT_S):
            found = await account.chain.read(queries.read_worker, worker)
            if found is not None and found.status == WorkerStatus.ACTIVE and found.peer_id == peer_id:
                await account.send(LeaveWorker(worker))
                logger.info("told the chain that worker %s leaves", worker.hex()[:12])
    except (MyelinError, trio.TooSlowError) as error:
        what = str(error) or f"the node did not answer within {TELL_TIMEOUT_S:.0f} s"
        logger.warning("the chain is not told that this worker leaves: %s", what)
