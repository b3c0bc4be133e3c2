"""How fetching weights fails."""

from __future__ import annotations


class FetchFailed(Exception):
    """No peer could provide a unit: the message names it and the last attempts' results."""
