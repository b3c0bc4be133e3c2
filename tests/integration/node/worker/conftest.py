"""Requests that lost a stage are held for seconds: here for less, or every test that loses one would wait for it."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def short_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.worker.ends.HOLD_S", 2.0)
