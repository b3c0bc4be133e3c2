"""Questions run at once: their answers keep their order, and one failure is raised as itself."""

from __future__ import annotations

from functools import partial

import pytest
import trio

from node.worker.together import run_each


async def answer(after_s: float, value: int) -> int:
    await trio.sleep(after_s)
    if value < 0:
        raise ValueError(str(value))
    return value


async def test_answers_are_in_order_whichever_comes_first(autojump_clock) -> None:
    assert await run_each([partial(answer, 2, 1), partial(answer, 1, 2), partial(answer, 3, 3)]) == [1, 2, 3]
    assert trio.current_time() == pytest.approx(3)
    assert await run_each([]) == []


async def test_the_first_in_order_that_failed_is_raised(autojump_clock) -> None:
    with pytest.raises(ValueError, match="-1"):
        await run_each([partial(answer, 1, 5), partial(answer, 2, -1), partial(answer, 1, -2)])


async def test_it_can_be_cancelled(autojump_clock) -> None:
    with trio.move_on_after(1) as scope:
        await run_each([partial(answer, 10, 1)])
    assert scope.cancelled_caught
