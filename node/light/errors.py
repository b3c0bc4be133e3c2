"""Errors of a light client's sources and state file. Imports nothing heavy: every command imports these."""

from __future__ import annotations


class SourceLost(Exception):
    """The source does not answer, or its answer is malformed. The message names the source and the reason."""


class LightStateInvalid(Exception):
    """The file is damaged or of another chain. The message names it and the remedy."""
