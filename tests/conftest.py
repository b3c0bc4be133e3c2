"""How test files are dealt out to processes: whole, and all that start a demo network to the same one."""

from __future__ import annotations

from pathlib import Path

import pytest

DEMO = Path(__file__).parent / "integration" / "demo"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Two networks of six processes at once keep a verifier on two cores from judging in time."""
    for item in items:
        group = "demo" if item.path.is_relative_to(DEMO) else item.nodeid.partition("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
