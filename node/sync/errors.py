"""How joining by a snapshot fails. Imports nothing heavy."""

from __future__ import annotations


class JoinFailed(Exception):
    """No snapshot could be joined from: the message says what came of the last attempts."""
