"""How fetching weights fails."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class FetchFailed(MyelinError):
    """A unit could not be fetched from anybody: the message says which, and what came of the last attempts."""
