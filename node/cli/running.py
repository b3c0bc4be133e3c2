"""A command that runs until it is asked to stop: its log, and the signals that end it."""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

import trio

from node.cli.errors import CliError
from proto_specs.errors import ExitStatus

T = TypeVar("T")

LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def setup_logging(level: str = "INFO") -> None:
    """Log each event as a line on standard error; libraries log errors only. Raises LogLevelInvalid."""
    if level.upper() not in LOG_LEVELS:
        raise LogLevelInvalid(f"{level!r:.40} is no log level: write one of {', '.join(LOG_LEVELS)}")
    logging.basicConfig(
        level=level.upper(), stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for name in ("libp2p", "httpx", "httpcore", "multiaddr"):
        logging.getLogger(name).setLevel(logging.ERROR)


class LogLevelInvalid(CliError):
    """Not the name of a log level."""

    exit_status = ExitStatus.WRONG_USAGE


async def run_until_signalled(function: Callable[..., Awaitable[T]], *args: object) -> T | None:
    """The result of an async function; None when SIGTERM, SIGINT or SIGHUP cancelled it first."""
    result: T | None = None
    async with trio.open_nursery() as nursery:

        async def stop_on_signal(task_status: Any) -> None:
            await wait_for_signal(task_status)
            nursery.cancel_scope.cancel()

        await nursery.start(stop_on_signal)  # first: an unhandled signal would leave the function's work half done
        result = await function(*args)
        nursery.cancel_scope.cancel()
    return result


class Draining(Protocol):
    """What can end in order."""

    @property
    def is_serving(self) -> bool:
        """Whether there is anything to end in order."""

    @property
    def is_asked(self) -> bool:
        """Whether it ends."""

    def ask(self, reason: str) -> None:
        """End in order."""


async def drain_on_signal(
    draining: Draining, cancel: Callable[[], None], task_status: Any = trio.TASK_STATUS_IGNORED
) -> None:
    """Ask for an end in order at the first signal; cancel at the second one, or at once when nothing serves yet."""
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        task_status.started()
        async for number in signals:
            if draining.is_asked or not draining.is_serving:
                cancel()
                return
            draining.ask(signal.Signals(number).name)


async def wait_for_signal(task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    """Return when the process is asked to stop."""
    with trio.open_signal_receiver(*STOP_SIGNALS) as signals:
        task_status.started()
        async for _ in signals:
            return
