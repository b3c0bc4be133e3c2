"""Events are handled in order, whether at once or by the task."""

from __future__ import annotations

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from node.worker.inbox import RequestInbox


@given(
    events=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(["now", "task", "both"]), st.booleans()), max_size=20)
)
def test_events_are_handled_once_and_in_order(events: list[tuple[int, str, bool]]) -> None:
    """An event is handled at once, by the task, or half and half; between two puts the task runs, or does not."""
    begun: list[int] = []

    def take_now(event: tuple[int, str]) -> tuple[int, str] | None:
        number, how = event
        if how == "task":
            return event
        begun.append(number)
        return None if how == "now" else (number, "rest")

    async def run() -> None:
        inbox = RequestInbox[tuple[int, str]](100, take_now)

        async def work() -> None:
            while True:
                number, how = await inbox.get()
                if how != "rest":
                    begun.append(number)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            for at, (_, how, has_break) in enumerate(events):
                inbox.put((at, how))
                if has_break:
                    await trio.testing.wait_all_tasks_blocked()
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()

    trio.run(run)
    assert begun == list(range(len(events)))


async def test_what_is_put_from_within_comes_after() -> None:
    handled: list[str] = []

    def take_now(event: str) -> str | None:
        if not event.endswith("within"):
            inbox.put(f"{event} within")
        handled.append(event)
        return "rest" if event == "second" else None

    inbox = RequestInbox[str](3, take_now)
    async with trio.open_nursery() as nursery:

        async def get() -> None:
            for _ in range(3):
                handled.append(await inbox.get())

        nursery.start_soon(get)
        await trio.testing.wait_all_tasks_blocked()
        inbox.put("first")
        assert handled == ["first", "first within"]
        inbox.put("second")
        inbox.put("third")
        assert handled == ["first", "first within", "second"], "the task takes the others, in order"
    assert handled[3:] == ["rest", "second within", "third"]
    assert inbox.waiting == 0


async def test_a_closed_inbox_takes_nothing_and_a_full_one_says_so() -> None:
    inbox = RequestInbox[int](1, lambda one: one)
    inbox.put(1)
    with pytest.raises(trio.WouldBlock):
        inbox.put(2)
    inbox.close()
    inbox.put(3)
    with pytest.raises(trio.ClosedResourceError):
        await inbox.get()
