"""How test files are dealt out to processes, and what becomes of what foreign libraries leave open in them.

Files are dealt out whole, all that start a demo network to the same process, and those that take longest first: what
is short fills the end of both processes.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

from tests.integration.node.shared import shared_node

__all__ = ["shared_node"]

settings.register_profile("shared", deadline=None)  # a busy machine is no failure; pytest-timeout guards
settings.load_profile("shared")

TESTS = Path(__file__).parent
DEMO = TESTS / "integration" / "demo"
GATEWAY = TESTS / "integration" / "gateway"
MODELS = tuple(TESTS / "integration" / "node" / name for name in ("worker", "verifier"))
LONGEST_FIRST = (
    DEMO,
    GATEWAY,
    TESTS / "unit" / "benchmarks" / "weights",  # beside the demo come tests that compute and wait for no clock
    TESTS / "integration" / "inference",
    *MODELS,
    TESTS / "integration",
    TESTS / "stateful",
    TESTS / "fuzz",
    TESTS / "property",
    TESTS / "simulation",
)
"""Folders in the order of what their longest file takes; the rest are short."""


def compute_rank(item: pytest.Item) -> int:
    """Place of a test's folder among those that take long."""
    ranks = (rank for rank, folder in enumerate(LONGEST_FIRST) if item.path.is_relative_to(folder))
    return next(ranks, len(LONGEST_FIRST))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Those that take long come first."""
    if hasattr(config, "workerinput"):  # one of several processes: whoever runs a few tests alone has its own order
        items.sort(key=compute_rank)


class DealtByFile(LoadScopeScheduling):
    """Whole files to a process; of the folders that start networks all to one. pytest 9.2 ends xdist's own groups."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        return "networks" if any((TESTS.parent / path).is_relative_to(one) for one in (DEMO, GATEWAY)) else path


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> DealtByFile:
    """See DealtByFile. Two networks of six processes at once keep a verifier on two cores from judging in time."""
    return DealtByFile(config, log)


def pytest_collection_finish() -> None:
    """Thousands of collected tests live as long as the process: no collection of garbage has to walk them again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Sockets that stock py-libp2p or an abandoned httpx call leave open: else they warn in some other test, later."""
    result = yield
    if any(item.iter_markers("leaves_open")) or any(item.iter_markers("xfail")):
        sys.last_value = sys.last_traceback = None  # type: ignore[assignment]  # they hold an xfailed test's frames
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    if any(item.path.is_relative_to(folder) for folder in MODELS):
        gc.collect()  # what a network of workers leaves in cycles holds half a gigabyte of weights
    return result
