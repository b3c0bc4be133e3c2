"""How joining by a snapshot fails. Imports nothing heavy."""

from __future__ import annotations


class JoinFailed(Exception):
    """No snapshot could be used: the message says how the last attempts ended."""
