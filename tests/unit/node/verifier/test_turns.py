"""Paid challenges are judged before audits, near deadlines first, and what needs no load before what does."""

from __future__ import annotations

from functools import partial

import trio
import trio.testing

from node.verifier.turns import SLACK_BLOCKS, JudgingTurns

ONE, OTHER = (bytes(32), 0, 10), (bytes(32), 10, 20)


async def run_all(turns: JudgingTurns, wanted: dict[str, tuple[bool, int, tuple[bytes, int, int]]]) -> list[str]:
    """All wait while something is judged; the order in which they come."""
    order: list[str] = []

    async def judge(name: str) -> None:
        await turns.wait(*wanted[name])
        async with turns.limiter:
            order.append(name)
            await trio.sleep(1)
        turns.note_done()

    async with trio.open_nursery() as nursery:
        await turns.limiter.acquire()
        for name in wanted:
            nursery.start_soon(partial(judge, name))
        await trio.testing.wait_all_tasks_blocked()
        turns.limiter.release()
    return order


async def test_order(autojump_clock) -> None:
    far = 10 * SLACK_BLOCKS
    wanted = {
        "audit": (True, 1, ONE),
        "late": (False, far, ONE),
        "other shard": (False, 2, OTHER),
        "first": (False, 1, ONE),
        "same shard, a little later": (False, 3, ONE),
    }
    order = await run_all(JudgingTurns(), wanted)
    assert order == ["first", "same shard, a little later", "other shard", "late", "audit"]


async def test_a_thread_that_was_left_alone_keeps_the_turn(autojump_clock) -> None:
    turns = JudgingTurns()
    turns.limiter.acquire_on_behalf_of_nowait("a thread")
    with trio.move_on_after(5) as scope:
        await turns.wait(False, 1, ONE)
    assert scope.cancelled_caught
    turns.limiter.release_on_behalf_of("a thread")
    with trio.fail_after(1):
        await turns.wait(False, 1, ONE)
