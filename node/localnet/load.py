"""Transfers at a steady rate over every validator's RPC, each followed to the block that a node reports as final.

The rate is kept whatever the nodes do (open loop): a transfer counts from the moment it was due.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from node.localnet.errors import LocalnetError
from node.localnet.latency import LatencyTally
from node.localnet.load_target import LoadTarget, SendSchedule
from node.localnet.payers import Rota, make_payers

DRAIN_S = 10.0
READY_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """Rate, length and number of payers of a load, and the time that the last transfers have to become final."""

    tps: float
    seconds: float
    payers: int
    genesis: bytes
    drain_s: float = DRAIN_S


async def run_load(urls: Sequence[str], plan: LoadPlan, tally: LatencyTally | None = None) -> LatencyTally:
    """Send transfers, wait for the last, return the tally. `tally` may be read meanwhile. Raises LocalnetError."""
    if not urls or plan.payers < len(urls) or plan.tps <= 0 or plan.seconds <= 0:
        raise LocalnetError("a load has a positive rate and length, and at least one payer for each validator")
    found = LatencyTally() if tally is None else tally
    payers = make_payers(plan.payers)
    targets = [LoadTarget(url, Rota(payers[at :: len(urls)]), plan.genesis, found) for at, url in enumerate(urls)]
    async with trio.open_nursery() as nursery:
        for target in targets:
            nursery.start_soon(target.run)
        with trio.move_on_after(READY_TIMEOUT_S):  # a target that does not answer is part of the measurement
            for target in targets:
                await target.is_ready.wait()
        found.started_s = trio.current_time()
        for at, target in enumerate(targets):
            step_s = len(urls) / plan.tps
            target.schedule = SendSchedule(found.started_s + at / plan.tps, step_s, found.started_s + plan.seconds)
        await trio.sleep(plan.seconds)
        with trio.move_on_after(plan.drain_s):
            for target in targets:
                await target.is_settled.wait()
        nursery.cancel_scope.cancel()
    for target in targets:
        target.give_up()
    return found
