"""The exact timer waits as long as told, on the kernel's clock."""

from __future__ import annotations

import time

import trio

from benchmarks.network.exact_timer import ExactTimer

WAIT_S = 0.0013


async def _wait(seconds: float) -> float:
    with ExactTimer() as timer:
        started_s = time.monotonic()
        await timer.sleep(seconds)
        return time.monotonic() - started_s


def test_a_wait_is_no_shorter_than_told() -> None:
    assert trio.run(_wait, WAIT_S) >= WAIT_S


def test_what_is_due_is_not_waited_for() -> None:
    with ExactTimer() as timer:
        trio.run(timer.sleep, 0.0)
        trio.run(timer.sleep, -1.0)
