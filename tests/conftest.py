"""How test files are dealt out to processes, and what becomes of what foreign libraries leave open in them.

Files are dealt out whole, and all that start a demo network to the same process.
"""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.integration.node.shared import shared_node

__all__ = ["shared_node"]

settings.register_profile("shared", deadline=None)  # a busy machine is no failure; pytest-timeout guards
settings.load_profile("shared")

DEMO = Path(__file__).parent / "integration" / "demo"
MODELS = Path(__file__).parent / "integration" / "serving"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two networks of six processes at once keep a verifier on two cores from judging in time."""
    for item in items:
        group = "demo" if item.path.is_relative_to(DEMO) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Sockets that stock py-libp2p or an abandoned httpx call leave open: else they warn in some other test, later."""
    result = yield
    if any(item.iter_markers("leaves_open")) or any(item.iter_markers("xfail")):
        sys.last_value = sys.last_traceback = None  # type: ignore[assignment]  # they hold an xfailed test's frames
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
    if item.path.is_relative_to(MODELS):
        gc.collect()  # what a network of workers leaves in cycles holds half a gigabyte of weights
    return result
