"""Runs questions to the chain at once, so that an order waits for the slowest of them and not for their sum."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import trio

T = TypeVar("T")


async def run_each(functions: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Their results, in order. When several fail, the error of the first in order is raised, as itself."""
    results: dict[int, T] = {}
    errors: dict[int, Exception] = {}

    async def run(at: int) -> None:
        try:
            results[at] = await functions[at]()
        except Exception as error:
            errors[at] = error

    async with trio.open_nursery() as nursery:
        for at in range(len(functions)):
            nursery.start_soon(run, at)
    if errors:
        raise errors[min(errors)]
    return [results[at] for at in range(len(functions))]
