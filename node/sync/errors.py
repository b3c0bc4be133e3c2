"""How joining by a snapshot fails. Imports nothing heavy."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class JoinFailed(MyelinError):
    """No snapshot could be joined from: the message says what came of the last attempts."""
