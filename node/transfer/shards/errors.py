"""How fetching weights fails."""

from __future__ import annotations


class FetchFailed(Exception):
    """A unit could not be fetched from anybody: the message says which, and what came of the last attempts."""
